// The page without a key: paste one. It is tried with GET /v1/models before it is kept.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { signIn, whySignedOut } from "../core/session.js";
import { Button } from "../components/basics.js";
import { TextField } from "../components/fields.js";
import { ThemeButton } from "../components/frame.js";
import { Icon } from "../components/icons.js";
import { ShowRequest } from "../components/show_request.js";

/** What comes before the key in the line that `tiger up` prints for a shell. */
const ASSIGNED = /^(export\s+)?TIGER_API_KEY=/;
const SENDABLE = /^[\x21-\x7e]+$/;

export function SignIn() {
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  async function submit(event) {
    event.preventDefault();
    const key = text.trim().replace(ASSIGNED, "");
    if (!SENDABLE.test(key)) {
      setError(key ? "A key has no spaces and no special letters. Paste it again." : "Paste your key first.");
      return;
    }
    setBusy(true);
    setError("");
    try {
      await call("GET", "v1/models", { withKey: key });
      signIn(key);
    } catch (failure) {
      setError(failure.status === 401 ? "The service does not know this key. It may have been revoked or have expired." : failure.message);
      setBusy(false);
    }
  }
  return html`
    <main class="sign-in">
      <form class="card sign-in-card" onSubmit=${submit} autocomplete="off">
        <img src=${new URL("../icon.svg", import.meta.url).href} alt="" width="48" height="48" />
        <h1>Welcome to tiger</h1>
        <p class="lead">Copy a language model, talk to it, and teach it what you like. Your models are yours alone.</p>
        ${whySignedOut.value && html`<p class="notice notice-bad" role="alert"><${Icon} name="warning" /><span>${whySignedOut.value}</span></p>`}
        <${TextField} label="API key" type="password" autocomplete="off" spellcheck="false" autofocus value=${text} error=${error}
          placeholder="tiger_…" hint="It stays in this tab and is forgotten when you close the tab." onInput=${setText} />
        <${Button} kind="main" type="submit" disabled=${isBusy}>${isBusy ? "Signing in…" : "Sign in"}<//>
        <p class="hint">You have no key? The person who runs this service has one for you: <code>tiger keys create</code>.</p>
      </form>
      <div class="row"><${ShowRequest} /><${ThemeButton} /></div>
    </main>`;
}
