// The files of this person, below the form that teaches from one of them. Here they are deleted.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { bytes, timeAgo } from "../core/format.js";
import { toast } from "../core/toasts.js";
import { Badge, Button, ErrorBox, Text } from "../components/basics.js";
import { Dialog } from "../components/dialog.js";

export const madeAt = (file) => new Date(file.created_at * 1000).toISOString();

/** `onDeleted` gets the id of a file that is gone. */
export function Files({ files, onDeleted }) {
  const [asked, setAsked] = useState(null);
  return html`
    <details><summary>Your files: ${files.length}, ${bytes(files.reduce((sum, each) => sum + each.bytes, 0))}</summary>
      <div class="table-box" tabindex="0" role="group" aria-label="Table of files">
        <table><thead><tr><th>Name</th><th>Size</th><th class="spare">Made</th><th><span class="hidden">Actions</span></th></tr></thead>
          <tbody>${files.map((each) => html`<${Row} key=${each.id} file=${each} onAsked=${() => setAsked(each)} />`)}</tbody></table>
      </div>
    </details>
    ${asked && html`<${DeleteFile} file=${asked} onClose=${() => setAsked(null)} onDeleted=${() => { setAsked(null); onDeleted(asked.id); }} />`}`;
}

function Row({ file, onAsked }) {
  return html`
    <tr>
      <td class="name"><span class="row"><${Text}>${file.filename}<//>
        ${file.status === "error" && html`<${Badge} kind="bad">cannot be used<//>`}${file.purpose === "fine-tune-results" && html`<${Badge}>result<//>`}</span></td>
      <td class="nowrap">${bytes(file.bytes)}</td>
      <td class="nowrap spare">${timeAgo(madeAt(file))}</td>
      <td class="number"><${Button} kind="bad button-small" aria-label=${`Delete the file ${file.filename}`} onClick=${onAsked}>Delete<//></td>
    </tr>`;
}

function DeleteFile({ file, onClose, onDeleted }) {
  const [error, setError] = useState(null);
  async function remove() {
    setError(null);
    try {
      await call("DELETE", `openai/v1/files/${encodeURIComponent(file.id)}`);
      toast(`${file.filename} is deleted.`, "good");
      onDeleted();
    } catch (failure) {
      setError(failure);
    }
  }
  return html`
    <${Dialog} title="Delete this file" onClose=${onClose}>
      <div class="dialog-body">
        <p><strong><${Text}>${file.filename}<//></strong> is deleted for ever. Trainings that have begun or wait have a copy of their own.</p>
        ${error && html`<${ErrorBox} error=${error} />`}
        <div class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} kind="bad" onClick=${remove}>Delete for ever<//></div>
      </div>
    <//>`;
}
