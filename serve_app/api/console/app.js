// Starts the console: without a key the sign-in, with one the page that the address names.
import { html, render, useMemo } from "./core/view.js";
import { me } from "./core/me.js";
import { key } from "./core/session.js";
import { place } from "./core/router.js";
import { Frame, forgetRequest } from "./components/frame.js";
import { PAGES } from "./pages/all.js";
import { SignIn } from "./pages/sign_in.js";

function App() {
  const [name, ...parts] = place.value.parts;
  const current = PAGES.find((each) => each.name === name) ?? PAGES[0];
  useMemo(forgetRequest, [current.name, parts.join("/"), key.value]);
  if (!key.value) return html`<${SignIn} />`;
  return html`
    <${Frame} pages=${PAGES.filter((each) => !each.isForOperators || me.value?.is_operator)} current=${current}>
      <${current.page} key=${current.name} parts=${parts} query=${place.value.query} />
    <//>`;
}

const app = document.getElementById("app");
app.replaceChildren();
render(html`<${App} />`, app);
