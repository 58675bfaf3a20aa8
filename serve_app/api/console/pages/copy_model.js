// The dialog that makes a private copy of a model.
import { html, useRef, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { loadModels } from "../core/models.js";
import { toast } from "../core/toasts.js";
import { Button, ErrorBox } from "../components/basics.js";
import { Dialog } from "../components/dialog.js";
import { NumberField, SelectField, TextField, numberOf } from "../components/fields.js";

/** `onMade` gets the new model. */
export function CopyModel({ parent, list, onClose, onMade }) {
  const [values, setValues] = useState({ name: "", description: "", parent_model: parent.id, rank: "" });
  const [error, setError] = useState(null);
  // One key for all tries with the same values: a repetition after a broken connection makes no second model.
  const attempt = useRef({ body: "", key: "" });
  const set = (name) => (value) => setValues((old) => ({ ...old, [name]: value }));
  const chosen = list.find((each) => each.id === values.parent_model) ?? parent;
  const isBase = chosen.read_only;
  async function create() {
    const body = {
      name: values.name.trim(), description: values.description, parent_model: values.parent_model,
      rank: isBase ? numberOf(values.rank) : undefined,
    };
    const text = JSON.stringify(body);
    if (attempt.current.body !== text) attempt.current = { body: text, key: newKey() };
    setError(null);
    try {
      const made = await call("POST", "v1/models", { body, headers: { "Idempotency-Key": attempt.current.key } });
      await loadModels({ quiet: true });
      toast(`${made.name} is ready.`, "good");
      onMade(made);
    } catch (failure) {
      setError(failure);
    }
  }
  const errorOf = (param) => (error?.param === param ? error.message : undefined);
  const isElsewhere = error && !["name", "description", "rank"].includes(error.param);
  return html`
    <${Dialog} title="Make a private copy" onClose=${onClose}>
      <form class="dialog-body" onSubmit=${(event) => event.preventDefault()}>
        <${SelectField} label="Copy of" value=${values.parent_model} onInput=${set("parent_model")}
          hint=${isBase ? undefined : "The copy begins at the current revision and is independent afterwards."}
          options=${list.map((each) => ({ value: each.id, title: each.name }))} />
        <${TextField} label="Name" required maxlength="64" autofocus value=${values.name} onInput=${set("name")} error=${errorOf("name")} />
        <${TextField} label="Description" optional multiline maxlength="4096" value=${values.description} onInput=${set("description")}
          placeholder="What shall it be good at?" error=${errorOf("description")} />
        ${isBase && html`
          <details><summary>More</summary>
            <${NumberField} label="Rank of the adapter" min="1" step="1" placeholder="the operator's default" value=${values.rank} onInput=${set("rank")}
              hint="A higher rank can learn more and needs more memory." error=${errorOf("rank")} />
          </details>`}
        ${isElsewhere && html`<${ErrorBox} error=${error} />`}
        <div class="dialog-foot">
          <${Button} onClick=${onClose}>Cancel<//>
          <${Button} kind="main" type="submit" disabled=${!values.name.trim()} onClick=${create}>Make the copy<//>
        </div>
      </form>
    <//>`;
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
}
