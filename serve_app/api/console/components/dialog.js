// A dialog. The browser keeps the focus inside, closes it with Escape, and gives the focus back.
import { html, useLayoutEffect, useRef } from "../core/view.js";
import { Button } from "./basics.js";

/** `onClose` is called when the person closes it; the caller then leaves it out. */
export function Dialog({ title, onClose, children }) {
  const element = useRef(null);
  // The fields inside take the focus in their effects, which come later: an element of a closed dialog gets none.
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return html`
    <dialog ref=${element} aria-label=${title} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
      <header class="dialog-head"><h2>${title}</h2><${Button} kind="quiet" icon="close" label="Close" onClick=${onClose} /></header>
      ${children}
    </dialog>`;
}
