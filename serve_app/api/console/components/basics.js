// Small elements that all pages use.
import { html, useEffect, useRef, useState } from "../core/view.js";
import { copy } from "../core/clipboard.js";
import { Icon } from "./icons.js";

/** A text of a model, a person or a file. Its direction does not disturb the text around it. */
export function Text({ children, block = false, class: className = "" }) {
  return html`<bdi class=${`text ${block ? "text-block" : ""} ${className}`}>${children}</bdi>`;
}

/** A button. `onClick` may return a promise: until it settles the button shows that and takes no second click. */
export function Button({ kind = "plain", icon, onClick, disabled, type = "button", label, children, ...more }) {
  const [isBusy, setBusy] = useState(false);
  const isThere = useRef(true);
  useEffect(() => () => { isThere.current = false; }, []);
  async function click(event) {
    const result = onClick?.(event);
    if (!(result instanceof Promise)) return;
    setBusy(true);
    try {
      await result;
    } finally {
      if (isThere.current) setBusy(false);
    }
  }
  return html`
    <button type=${type} class=${`button button-${kind} ${children ? "" : "button-icon"}`} onClick=${click}
      disabled=${disabled || isBusy} aria-busy=${isBusy} aria-label=${label} title=${label} ...${more}>
      ${isBusy ? html`<span class="spinner" aria-hidden="true"></span>` : icon && html`<${Icon} name=${icon} />`}
      ${children && html`<span>${children}</span>`}
    </button>`;
}

export function CopyButton({ text, label = "Copy" }) {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return undefined;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [isCopied]);
  return html`<${Button} icon=${isCopied ? "check" : "copy"} kind="quiet"
    onClick=${async () => setCopied(await copy(text))}>${isCopied ? "Copied" : label}<//>`;
}

/** The head of a page, with its one `h1`. `actions` are at its right. */
export function PageHead({ title, lead, actions, back }) {
  return html`
    <header class="page-head">
      ${back && html`<a class="back" href=${back.href}><${Icon} name="back" />${back.title}</a>`}
      <div class="page-head-row">
        <div><h1 tabindex="-1">${title}</h1>${lead && html`<p class="lead">${lead}</p>`}</div>
        ${actions && html`<div class="actions">${actions}</div>`}
      </div>
    </header>`;
}

/** What a page shows when there is nothing yet, with what to do next. */
export function Empty({ icon, title, children, action }) {
  return html`
    <div class="empty"><${Icon} name=${icon} /><h2>${title}</h2><p>${children}</p>${action}</div>`;
}

/** Grey bars in the place of data that is being loaded. */
export function Skeleton({ lines = 3 }) {
  return html`
    <div class="skeleton" role="status" aria-label="Loading">
      ${Array.from({ length: lines }, (_, index) => html`<span key=${index}></span>`)}
    </div>`;
}

/** An error in the place of data, with a way to try again. */
export function ErrorBox({ error, retry }) {
  return html`
    <div class="notice notice-bad" role="alert">
      <${Icon} name="warning" />
      <div><p><${Text}>${error.message}<//></p>${error.param && html`<p class="faint">Field: <code>${error.param}</code></p>`}</div>
      ${retry && html`<${Button} onClick=${retry}>Try again<//>`}
    </div>`;
}

export function Badge({ kind = "plain", children }) {
  return html`<span class=${`badge badge-${kind}`}>${children}</span>`;
}
