// `#/keys`: the keys of this person. A new key is shown once, and only on this page.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { dateTime, timeAgo } from "../core/format.js";
import { useResource } from "../core/resource.js";
import { toast, toastError } from "../core/toasts.js";
import { Badge, Button, CopyButton, ErrorBox, PageHead, Skeleton, Text } from "../components/basics.js";
import { Dialog } from "../components/dialog.js";
import { SelectField, TextField } from "../components/fields.js";

const DAY_MS = 86_400_000;
const LIFETIMES = [
  { value: "", title: "Never" }, { value: "1", title: "In a day" }, { value: "30", title: "In 30 days" }, { value: "365", title: "In a year" },
];

export function Keys() {
  const { data, error, reload } = useResource((signal) => call("GET", "v1/keys", { signal }), []);
  const [isMaking, setMaking] = useState(false);
  const [revoked, setRevoked] = useState(null);
  return html`
    <${PageHead} title="Keys" lead="Each program gets a key of its own, so that you can revoke one without the others."
      actions=${html`<${Button} kind="main" icon="plus" onClick=${() => setMaking(true)}>Make a key<//>`} />
    ${error && html`<${ErrorBox} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Skeleton} lines=${4} />`}
    ${data && html`
      <section class="card" aria-label="Your keys"><div class="table-box" tabindex="0" role="group" aria-label="Table of keys">
        <table><thead><tr><th>Name</th><th class="spare">Id</th><th class="spare">Made</th><th>Last used</th><th>Expires</th><th><span class="hidden">Actions</span></th></tr></thead>
          <tbody>${data.map((each) => html`<${Row} key=${each.id} entry=${each} revoke=${() => setRevoked(each)} />`)}</tbody></table>
      </div></section>`}
    ${isMaking && html`<${MakeKey} onClose=${() => { setMaking(false); reload(); }} />`}
    ${revoked && html`<${Revoke} entry=${revoked} onClose=${() => setRevoked(null)} onRevoked=${() => { setRevoked(null); reload(); }} />`}`;
}

function Row({ entry, revoke }) {
  const { name, id, created, expires, current } = entry;
  const last_used = entry.last_used && entry.last_used < created ? created : entry.last_used; // it is the beginning of an hour
  const isExpired = expires && Date.parse(expires) < Date.now();
  return html`
    <tr>
      <td class="name"><span class="row"><${Text}>${name}<//>${current && html`<${Badge} kind="good">this one<//>`}${isExpired && html`<${Badge} kind="bad">expired<//>`}</span></td>
      <td class="spare"><code>${id}</code></td>
      <td class="nowrap spare"><time datetime=${created} title=${dateTime(created)}>${timeAgo(created)}</time></td>
      <td class="nowrap">${last_used ? html`<time datetime=${last_used} title=${`In the hour from ${dateTime(last_used)}`}>${timeAgo(last_used)}</time>` : html`<span class="faint">never</span>`}</td>
      <td class="nowrap">${expires ? html`<time datetime=${expires} title=${dateTime(expires)}>${timeAgo(expires)}</time>` : html`<span class="faint">never</span>`}</td>
      <td class="number"><${Button} kind="bad button-small" aria-label=${`Revoke the key ${name}`} onClick=${revoke}>Revoke<//></td>
    </tr>`;
}

function MakeKey({ onClose }) {
  const [name, setName] = useState("");
  const [days, setDays] = useState("");
  const [error, setError] = useState(null);
  const [made, setMade] = useState(null);
  async function make() {
    setError(null);
    try {
      const expires = days ? new Date(Date.now() + Number(days) * DAY_MS).toISOString() : undefined;
      setMade(await call("POST", "v1/keys", { body: { name: name.trim(), expires } }));
    } catch (failure) {
      setError(failure);
    }
  }
  if (made) {
    return html`
      <${Dialog} title="Copy your new key now" onClose=${onClose}>
        <div class="dialog-body">
          <p>This is the only time that it is shown. The service keeps no copy of it.</p>
          <pre class="code" tabindex="0" aria-label="The new key"><code>${made.key}</code></pre>
          <div class="dialog-foot"><${CopyButton} text=${made.key} label="Copy the key" /><${Button} kind="main" onClick=${onClose}>I have it<//></div>
        </div>
      <//>`;
  }
  return html`
    <${Dialog} title="Make a key" onClose=${onClose}>
      <form class="dialog-body" onSubmit=${(event) => event.preventDefault()}>
        <${TextField} label="Name" required maxlength="64" autofocus autocomplete="off" value=${name} onInput=${setName} hint="The program that will use it." error=${error?.param === "name" ? error.message : undefined} />
        <${SelectField} label="Expires" value=${days} onInput=${setDays} options=${LIFETIMES} />
        ${error && error.param !== "name" && html`<${ErrorBox} error=${error} />`}
        <div class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} kind="main" type="submit" disabled=${!name.trim()} onClick=${make}>Make the key<//></div>
      </form>
    <//>`;
}

function Revoke({ entry, onClose, onRevoked }) {
  async function revoke() {
    try {
      await call("DELETE", `v1/keys/${encodeURIComponent(entry.id)}`);
      toast("The key is revoked. Within five seconds it opens nothing.", "good");
      onRevoked();
    } catch (failure) {
      toastError(failure);
    }
  }
  return html`
    <${Dialog} title="Revoke this key" onClose=${onClose}>
      <div class="dialog-body">
        <p>Programs with the key <strong><${Text}>${entry.name}<//></strong> are refused from now on. ${entry.current && "This page uses it: you will be signed out."}</p>
        <div class="dialog-foot"><${Button} onClick=${onClose}>Cancel<//><${Button} kind="bad" onClick=${revoke}>Revoke<//></div>
      </div>
    <//>`;
}
