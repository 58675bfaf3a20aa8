// Short messages at the edge of the page. Errors stay until they are closed; the others go by themselves.
import { signal } from "./view.js";
import { onSignOut } from "./session.js";

const SHOWN_MS = 5000;
let number = 0;

export const toasts = signal([]);

onSignOut(() => (toasts.value = []));

/** Shows a message of the kind `good`, `info` or `error`. */
export function toast(text, kind = "info") {
  const id = ++number;
  toasts.value = [...toasts.value.filter((each) => each.text !== text), { id, text, kind }].slice(-4);
  if (kind !== "error") setTimeout(() => closeToast(id), SHOWN_MS);
}

export function closeToast(id) {
  toasts.value = toasts.value.filter((each) => each.id !== id);
}

/** Shows an error, unless somebody stopped the request. */
export function toastError(error) {
  if (error?.name === "AbortError") return;
  toast(error?.message ?? String(error), "error");
}
