// The last request of the page, for "Show request". It has no key.
import { signal } from "./view.js";

export const lastRequest = signal(null);

export function noteRequest(request) {
  lastRequest.value = request;
}
