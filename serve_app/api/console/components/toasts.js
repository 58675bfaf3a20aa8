// The messages of core/toasts.js at the edge of the page.
import { html } from "../core/view.js";
import { closeToast, toasts } from "../core/toasts.js";
import { Button, Text } from "./basics.js";
import { Icon } from "./icons.js";

export function Toasts() {
  return html`
    <div class="toasts" role="status" aria-live="polite">
      ${toasts.value.map(({ id, text, kind }) => html`
        <div key=${id} class=${`toast toast-${kind}`}>
          <${Icon} name=${kind === "error" ? "warning" : "check"} />
          <p><${Text}>${text}<//></p>
          <${Button} kind="quiet" icon="close" label="Close this message" onClick=${() => closeToast(id)} />
        </div>`)}
    </div>`;
}
