// Who is signed in. It is asked once for each key.
import { effect, signal } from "./view.js";
import { call } from "./api.js";
import { key } from "./session.js";

/** `{user, current_key, is_operator, dashboard_url}`; null until it is known. */
export const me = signal(null);

effect(() => {
  const asked = key.value;
  me.value = null;
  if (asked) call("GET", "v1/me", { quiet: true }).then((found) => { if (key.value === asked) me.value = found; }, () => {});
});
