// The key of this person. It lives in the storage of this tab only, never in an address, the page or a log.
import { signal } from "./view.js";

const PLACE = "tiger.key";

export const key = signal(sessionStorage.getItem(PLACE));
export const whySignedOut = signal("");

export function signIn(newKey) {
  sessionStorage.setItem(PLACE, newKey);
  whySignedOut.value = "";
  key.value = newKey;
}

const leavings = [];

/** Registers a function that forgets what belongs to the person who signs out. */
export function onSignOut(forget) {
  leavings.push(forget);
}

export function signOut(why = "") {
  sessionStorage.removeItem(PLACE);
  whySignedOut.value = why;
  key.value = null;
  for (const forget of leavings) forget();
}

/** Signs out if `usedKey` is the key of now: an answer to an earlier key says nothing about this one. */
export function keyIsInvalid(usedKey) {
  if (usedKey === key.value) {
    signOut("This key is no longer valid. It was revoked or has expired. Sign in with another one.");
  }
}
