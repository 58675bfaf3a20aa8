// The models of this person, shared by all pages. A page that changes a model calls `loadModels` again.
import { effect, signal } from "./view.js";
import { call } from "./api.js";
import { isReachable } from "./connection.js";
import { onSignOut } from "./session.js";

/** `list` is null until the models were loaded. */
export const models = signal({ list: null, error: null });

onSignOut(() => (models.value = { list: null, error: null }));

export async function loadModels(options = {}) {
  try {
    models.value = { list: await call("GET", "v1/models", options), error: null };
  } catch (error) {
    if (error.name !== "AbortError") models.value = { list: models.value.list, error };
  }
}

effect(() => {
  if (isReachable.value && models.peek().error?.code === "unreachable") loadModels({ quiet: true });
});

/** Returns the numbers of the revisions of a private model that can answer, newest first. */
export function answeringRevisions(revisions, current) {
  const numbers = new Set([0, current, ...revisions.map((each) => each.revision)]);
  return [...numbers].sort((a, b) => b - a);
}
