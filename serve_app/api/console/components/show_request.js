// "Show request": the last request of the page, for a shell and for Python.
import { html, useState } from "../core/view.js";
import { lastRequest } from "../core/last_request.js";
import { curlOf, pythonOf } from "../core/snippets.js";
import { Button, CopyButton } from "./basics.js";
import { Dialog } from "./dialog.js";

const LANGUAGES = { curl: curlOf, Python: pythonOf };

export function ShowRequest() {
  const [isOpen, setOpen] = useState(false);
  const request = lastRequest.value;
  if (!request) return null;
  return html`
    <div class="show-request">
      <${Button} kind="quiet" icon="code" onClick=${() => setOpen(true)}>Show request<//>
      ${isOpen && html`<${Snippets} request=${request} onClose=${() => setOpen(false)} />`}
    </div>`;
}

function Snippets({ request, onClose }) {
  const [language, setLanguage] = useState("curl");
  const text = LANGUAGES[language](request);
  return html`
    <${Dialog} title="The last request of this page" onClose=${onClose}>
      <div class="dialog-body">
        <div class="row row-apart">
          <div class="segments" role="group" aria-label="Language">
            ${Object.keys(LANGUAGES).map((each) => html`
              <button key=${each} type="button" aria-pressed=${each === language} onClick=${() => setLanguage(each)}>${each}</button>`)}
          </div>
          <${CopyButton} text=${text} />
        </div>
        <pre class="code" tabindex="0"><code>${text}</code></pre>
        <p class="hint">Set the key first: <code>export TIGER_API_KEY=…</code></p>
      </div>
    <//>`;
}
