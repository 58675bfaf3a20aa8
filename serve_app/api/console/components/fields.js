// Fields of forms. Each has a label, and may have a hint and an error, which belong to it for screen readers too.
import { html, useEffect, useRef } from "../core/view.js";

let number = 0;

/** A field around one input: `children` gets the attributes that connect the input with label and hint. */
export function Field({ label, hint, error, optional, children }) {
  const id = useStableId();
  const describedBy = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`
    <div class="field">
      <label for=${id}>${label}${optional && html` <span class="faint">optional</span>`}</label>
      ${children({ id, "aria-describedby": describedBy, "aria-invalid": error ? "true" : undefined })}
      ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
      ${error && html`<p class="field-error" id=${`${id}-error`} role="alert">${error}</p>`}
    </div>`;
}

function useStableId() {
  const id = useRef(null);
  id.current ??= `field-${++number}`;
  return id.current;
}

/** Returns a `ref` whose element gets the focus when it appears. Browsers obey `autofocus` only once for a page. */
export function useFocus(isWanted = true) {
  const element = useRef(null);
  useEffect(() => { if (isWanted) element.current.focus(); }, []);
  return element;
}

export function TextField({ value, onInput, multiline = false, rows = 3, label, hint, error, optional, autofocus = false, ...more }) {
  const Tag = multiline ? "textarea" : "input";
  const element = useFocus(autofocus);
  return html`
    <${Field} label=${label} hint=${hint} error=${error} optional=${optional}>
      ${(given) => html`<${Tag} ref=${element} ...${given} ...${more} dir="auto" rows=${multiline ? rows : undefined} value=${value}
        onInput=${(event) => onInput(event.currentTarget.value)} />`}
    <//>`;
}

/** A number that may be empty. `value` and what `onInput` gets are texts; `numberOf` makes the number. */
export function NumberField({ value, onInput, label, hint, error, ...more }) {
  return html`
    <${Field} label=${label} hint=${hint} error=${error}>
      ${(given) => html`<input type="number" inputmode="decimal" step="any" ...${given} ...${more} value=${value}
        onInput=${(event) => onInput(event.currentTarget.value)} />`}
    <//>`;
}

export function SelectField({ value, onInput, label, hint, error, options, ...more }) {
  return html`
    <${Field} label=${label} hint=${hint} error=${error}>
      ${(given) => html`<select ...${given} ...${more} value=${value} onChange=${(event) => onInput(event.currentTarget.value)}>
        ${options.map((each) => html`<option key=${each.value} value=${each.value} selected=${each.value === value}>${each.title}</option>`)}
      </select>`}
    <//>`;
}

/** Returns the number in a text; undefined for an empty one, so that JSON leaves it out. */
export function numberOf(text) {
  return String(text ?? "").trim() === "" ? undefined : Number(text);
}
