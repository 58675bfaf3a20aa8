// The address after `#` names the page: `#/models/model42?compare=1,2`. The server sees nothing of it.
import { signal } from "./view.js";

function parsed() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The current place: `parts` of the path and `query`. */
export const place = signal(parsed());
addEventListener("hashchange", () => (place.value = parsed()));

/** Returns the address of a page: `link("models", "model42")`. Parts may have any characters. */
export function link(...parts) {
  const query = typeof parts.at(-1) === "object" ? `?${new URLSearchParams(parts.pop())}` : "";
  return `#/${parts.map(encodeURIComponent).join("/")}${query}`;
}

export function go(...parts) {
  location.hash = link(...parts);
}
