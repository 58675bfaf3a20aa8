// Knows whether the service can be reached. After a failure it asks /healthz until there is an answer.
import { signal } from "./view.js";
import { toast } from "./toasts.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;

export const isReachable = signal(true);

export function noteReached() {
  if (isReachable.value) return;
  isReachable.value = true;
  toast("The service answers again.", "good");
}

export function noteUnreachable() {
  if (!isReachable.value) return;
  isReachable.value = false;
  askAfter(FIRST_PAUSE_MS);
}

function askAfter(pauseMs) {
  setTimeout(async () => {
    if (isReachable.value) return;
    const answer = await fetch(new URL("../healthz", location.origin + location.pathname), {
      cache: "no-store", credentials: "omit",
    }).catch(() => null);
    if (answer?.ok) noteReached();
    else askAfter(Math.min(pauseMs * 2, LONGEST_PAUSE_MS));
  }, pauseMs);
}
