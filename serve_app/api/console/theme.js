// Applies the theme that this person chose before anything is painted. It is no module, because modules come later.
"use strict";
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("tiger.theme");
  } catch {
    // A browser that keeps nothing for pages follows the system's theme.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
