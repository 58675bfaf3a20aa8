// What one page gives to another one, such as an answer that a person wants to teach from.
import { signal } from "./view.js";
import { onSignOut } from "./session.js";

/** `{model, messages, responses}` for the page Teach: texts in the forms of the API. null: nothing was handed over. */
export const toTeach = signal(null);

onSignOut(() => (toTeach.value = null));
