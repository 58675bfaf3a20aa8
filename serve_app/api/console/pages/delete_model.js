// The dialog that deletes a model. The person types its name, because nothing brings it back.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { toast } from "../core/toasts.js";
import { Button, ErrorBox, Text } from "../components/basics.js";
import { Dialog } from "../components/dialog.js";
import { TextField } from "../components/fields.js";

export function DeleteModel({ model, onClose, onDeleted }) {
  const [typed, setTyped] = useState("");
  const [error, setError] = useState(null);
  async function remove() {
    setError(null);
    try {
      await call("DELETE", `v1/models/${encodeURIComponent(model.id)}`);
      toast(`${model.name} is deleted.`, "good");
      onDeleted();
    } catch (failure) {
      setError(failure);
    }
  }
  return html`
    <${Dialog} title="Delete this model" onClose=${onClose}>
      <form class="dialog-body" onSubmit=${(event) => event.preventDefault()}>
        <p><strong><${Text}>${model.name}<//></strong> and all its revisions are deleted for ever. Copies of it stay.</p>
        <${TextField} label="Type the name of the model" autofocus autocomplete="off" value=${typed} onInput=${setTyped} />
        ${error && html`<${ErrorBox} error=${error} />`}
        <div class="dialog-foot">
          <${Button} onClick=${onClose}>Cancel<//>
          <${Button} kind="bad" type="submit" disabled=${typed !== model.name} onClick=${remove}>Delete for ever<//>
        </div>
      </form>
    <//>`;
}
