// The theme: that of the system, or the one that was chosen. `theme.js` beside the index applies it at the start.
import { signal } from "./view.js";

const PLACE = "tiger.theme";
const ORDER = ["auto", "light", "dark"];

export const theme = signal(document.documentElement.dataset.theme ?? "auto");

export function nextTheme() {
  theme.value = ORDER[(ORDER.indexOf(theme.value) + 1) % ORDER.length];
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  try {
    localStorage.setItem(PLACE, theme.value);
  } catch {
    // The choice then holds until the page is left.
  }
}
