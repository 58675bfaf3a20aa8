// The frame around every page: navigation, theme, sign out, messages, and "Show request" below the page.
import { html, useEffect, useRef } from "../core/view.js";
import { isReachable } from "../core/connection.js";
import { lastRequest } from "../core/last_request.js";
import { link, place } from "../core/router.js";
import { signOut } from "../core/session.js";
import { nextTheme, theme } from "../core/theme.js";
import { Button } from "./basics.js";
import { Icon } from "./icons.js";
import { ShowRequest } from "./show_request.js";
import { Toasts } from "./toasts.js";

const THEMES = { auto: "Theme of the system", light: "Light theme", dark: "Dark theme" };
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

export function ThemeButton() {
  return html`<${Button} kind="quiet" icon=${THEME_ICONS[theme.value]} label=${`${THEMES[theme.value]}; change it`} onClick=${nextTheme} />`;
}

/** `pages` are all pages of the navigation, and `current` is the one that is shown. */
export function Frame({ pages, current, children }) {
  const main = useRef(null);
  const isFirst = useRef(true);
  const address = place.value.parts.join("/");
  useEffect(() => {
    document.title = `${current.title} – tiger`;
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    scrollTo(0, 0);
    main.current.querySelector("h1")?.focus({ preventScroll: true });
  }, [address]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the page</a>
    <div class="frame">
      <nav class="nav" aria-label="Pages">
        <a class="brand" href=${link("models")}><img src=${new URL("../icon.svg", import.meta.url).href} alt="" width="28" height="28" /><span>tiger</span></a>
        <ul>
          ${pages.map((page) => html`
            <li key=${page.name}><a href=${link(page.name)} aria-current=${page === current ? "page" : undefined}>
              <${Icon} name=${page.name} /><span>${page.title}</span></a></li>`)}
        </ul>
        <div class="nav-foot">
          <${ThemeButton} />
          <${Button} kind="quiet" icon="leave" label="Sign out" onClick=${() => signOut()} />
        </div>
      </nav>
      <main id="main" ref=${main} tabindex="-1" class=${current.isWide ? "main main-wide" : "main"}>
        ${!isReachable.value && html`<p class="notice notice-bad" role="alert"><${Icon} name="warning" />
          <span>The service cannot be reached. It may be restarting. This page goes on by itself.</span></p>`}
        ${children}
        <${ShowRequest} key=${current.name} />
      </main>
    </div>
    <${Toasts} />`;
}

/** Forgets the request of the page before. */
export function forgetRequest() {
  lastRequest.value = null;
}
