// The dialog that changes the name, the description and the defaults of a model.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { toast } from "../core/toasts.js";
import { Button, ErrorBox } from "../components/basics.js";
import { Dialog } from "../components/dialog.js";
import { NumberField, TextField, numberOf } from "../components/fields.js";

const NUMBERS = {
  temperature: "Temperature", top_p: "Top-p", learning_rate: "Learning rate", learning_steps: "Learning steps",
  beta: "Beta", epsilon: "Epsilon",
};

export function ChangeModel({ model, onClose, onChanged }) {
  const [values, setValues] = useState(() => ({
    name: model.name, description: model.description,
    ...Object.fromEntries(Object.keys(NUMBERS).map((name) => [name, String(model[name])])),
  }));
  const [error, setError] = useState(null);
  const set = (name) => (value) => setValues((old) => ({ ...old, [name]: value }));
  const errorOf = (name) => (error?.param === name ? error.message : undefined);
  /** The fields that differ from the model. */
  function changes() {
    const found = {};
    for (const name of ["name", "description"]) if (values[name] !== model[name]) found[name] = values[name];
    for (const name of Object.keys(NUMBERS)) {
      const value = numberOf(values[name]);
      if (value !== undefined && value !== model[name]) found[name] = value;
    }
    return found;
  }
  async function save() {
    setError(null);
    try {
      await call("PATCH", `v1/models/${encodeURIComponent(model.id)}`, { body: changes() });
      toast("The changes are saved.", "good");
      onChanged();
    } catch (failure) {
      setError(failure);
    }
  }
  return html`
    <${Dialog} title="Change this model" onClose=${onClose}>
      <form class="dialog-body" onSubmit=${(event) => event.preventDefault()}>
        <${TextField} label="Name" required autofocus maxlength="64" value=${values.name} onInput=${set("name")} error=${errorOf("name")}
          hint=${html`The id <code>${model.id}</code> stays.`} />
        <${TextField} label="Description" multiline maxlength="4096" value=${values.description} onInput=${set("description")} error=${errorOf("description")} />
        <fieldset class="fieldset"><legend>Defaults</legend>
          <div class="form-grid">
            ${Object.entries(NUMBERS).map(([name, label]) => html`
              <${NumberField} key=${name} label=${label} value=${values[name]} onInput=${set(name)} error=${errorOf(name)} />`)}
          </div>
        </fieldset>
        ${error && !(error.param in values) && html`<${ErrorBox} error=${error} />`}
        <div class="dialog-foot">
          <${Button} onClick=${onClose}>Cancel<//>
          <${Button} kind="main" type="submit" disabled=${!Object.keys(changes()).length} onClick=${save}>Save<//>
        </div>
      </form>
    <//>`;
}
