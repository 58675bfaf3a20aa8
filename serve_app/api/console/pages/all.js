// All pages, in the order of the navigation. A new page is one line here; README.md beside says how to write it.
//
//   name      the first part of its address and the name of its icon
//   title     the text of its link
//   page      the component; it gets `parts`, the rest of the address, and `query`
//   isWide    the page uses the whole width
//   isForOperators    only operators see its link
import { Jobs } from "./jobs.js";
import { Keys } from "./keys.js";
import { Models } from "./models.js";
import { Operator } from "./operator.js";
import { Talk } from "./talk.js";
import { Teach } from "./teach.js";
import { Usage } from "./usage.js";

export const PAGES = [
  { name: "models", title: "Models", page: Models },
  { name: "talk", title: "Talk", page: Talk },
  { name: "teach", title: "Teach", page: Teach },
  { name: "jobs", title: "Jobs", page: Jobs },
  { name: "usage", title: "Usage", page: Usage },
  { name: "keys", title: "Keys", page: Keys },
  { name: "operator", title: "Operator", page: Operator, isForOperators: true },
];

/** Tells whether there is a page of this name, for a link that needs it. */
export const hasPage = (name) => PAGES.some((each) => each.name === name);
