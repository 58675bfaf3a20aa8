// Icons as lines on a grid of 24. They mean nothing to a screen reader; the text beside them does.
import { html } from "../core/view.js";

const PATHS = {
  models: "M12 3 4 7v10l8 4 8-4V7zM4 7l8 4 8-4M12 11v10",
  talk: "M5 5h14a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-8l-4 4v-4H5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1z",
  teach: "M12 4 2 9l10 5 10-5zM6 11v5c3 3 9 3 12 0v-5M22 9v6",
  jobs: "M4 19V5M4 19h16M8 15l4-5 3 3 4-6",
  usage: "M5 20v-7M12 20V4M19 20v-11",
  keys: "M15 4a5 5 0 1 0-4.600 7L4 17.500V20h3v-2h2v-2h2l2.300-2.300A5 5 0 0 0 15 4zM16 8h.01",
  operator: "M4 6h16M4 12h16M4 18h16M8 4v4M15 10v4M10 16v4",
  good: "M7 11v9H4v-9zM7 11l4-8a2.500 2.500 0 0 1 2.500 2.500V9H19a1.500 1.500 0 0 1 1.500 1.800l-1.500 7.500A2 2 0 0 1 17 20H7",
  bad: "M7 13V4H4v9zM7 13l4 8a2.500 2.500 0 0 0 2.500-2.500V15H19a1.500 1.500 0 0 0 1.500-1.800L19 5.700A2 2 0 0 0 17 4H7",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.500 10 17 19 7",
  back: "M14 6l-6 6 6 6",
  warning: "M12 4 2.500 20h19zM12 10v4M12 17h.01",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  retry: "M5 12a7 7 0 1 1 2 5M5 19v-5h5",
  columns: "M4 5h7v14H4zM13 5h7v14h-7z",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500 19 19M19 5l-1.500 1.500M6.500 17.500 5 19",
  moon: "M20 14A8 8 0 1 1 10 4a6.500 6.500 0 0 0 10 10z",
  auto: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  leave: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
