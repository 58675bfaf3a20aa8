// The revisions of a model: metrics, activate, download, and a comparison of two.
import { html, useState } from "../core/view.js";
import { call, download } from "../core/api.js";
import { bytes, dateTime, short, timeAgo } from "../core/format.js";
import { answeringRevisions } from "../core/models.js";
import { useResource } from "../core/resource.js";
import { link } from "../core/router.js";
import { toast, toastError } from "../core/toasts.js";
import { Badge, Button, ErrorBox, Skeleton } from "../components/basics.js";

const SHOWN = ["loss", "kl", "reward_mean", "token_accuracy", "reward_margin", "grad_norm"];
const MAX_COLUMNS = 4;

export function Revisions({ model, onActivated }) {
  const path = `v1/models/${encodeURIComponent(model.id)}/revisions`;
  const { data, error, reload } = useResource((signal) => call("GET", path, { signal, quiet: true }), [model.id, model.revision]);
  const [chosen, setChosen] = useState([]);
  if (!data) return error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Skeleton} lines=${4} />`;
  const known = new Map(data.map((each) => [each.revision, each]));
  const rows = answeringRevisions(data, model.revision).map((number) => known.get(number) ?? { revision: number, metrics: {} });
  const columns = SHOWN.filter((name) => data.some((each) => name in each.metrics)).slice(0, MAX_COLUMNS);
  const toggle = (number) => setChosen((old) => (old.includes(number) ? old.filter((each) => each !== number) : [...old, number].slice(-2)));
  async function activate(number) {
    try {
      await call("POST", `${path}/${number}/activate`);
      toast(`Revision ${number} answers now.`, "good");
      onActivated();
    } catch (failure) {
      toastError(failure);
    }
  }
  return html`
    <section class="card" aria-label="Revisions">
      <div class="row row-apart card-title"><h2>Revisions</h2><span class="faint">Choose two to compare them.</span></div>
      <div class="table-box" tabindex="0" role="group" aria-label="Table of revisions">
        <table>
          <thead><tr><th><span class="hidden">Compare</span></th><th>Revision</th><th>Made</th>
            ${columns.map((name) => html`<th key=${name} class="number">${titleOf(name)}</th>`)}<th class="number">Size</th><th><span class="hidden">Actions</span></th></tr></thead>
          <tbody>
            ${rows.map((row) => html`<${Row} key=${row.revision} row=${row} columns=${columns} isCurrent=${row.revision === model.revision}
              isChosen=${chosen.includes(row.revision)} toggle=${toggle} activate=${activate} path=${path} model=${model} />`)}
          </tbody>
        </table>
      </div>
    </section>
    ${chosen.length === 2 && html`<${Comparison} model=${model} pair=${chosen.toSorted((a, b) => a - b).map((number) => rows.find((row) => row.revision === number))} />`}`;
}

function Row({ row, columns, isCurrent, isChosen, toggle, activate, path, model }) {
  const number = row.revision;
  return html`
    <tr>
      <td><input type="checkbox" aria-label=${`Compare revision ${number}`} checked=${isChosen} onChange=${() => toggle(number)} /></td>
      <td><span class="row nowrap"><strong>${number}</strong>${isCurrent && html`<${Badge} kind="good">current<//>`}</span></td>
      <td>${row.created ? html`<time datetime=${row.created} title=${dateTime(row.created)}>${timeAgo(row.created)}</time>` : html`<span class="faint">before the first training</span>`}</td>
      ${columns.map((name) => html`<td key=${name} class="number">${short(row.metrics[name])}</td>`)}
      <td class="number">${row.size_bytes === undefined ? "–" : bytes(row.size_bytes)}</td>
      <td><span class="row row-end nowrap">
        <a class="button button-quiet button-small" href=${link("talk", { model: model.id, revision: number })}>Talk</a>
        ${!isCurrent && html`<${Button} kind="plain button-small" aria-label=${`Make revision ${number} the current one`} onClick=${() => activate(number)}>Activate<//>`}
        ${row.size_bytes !== undefined && html`<${Button} kind="quiet button-small" icon="download" label=${`Download the adapter of revision ${number}`} onClick=${() => save(`${path}/${number}/adapter`)} />`}
      </span></td>
    </tr>`;
}

function Comparison({ model, pair }) {
  const [before, after] = pair;
  const names = [...new Set([...Object.keys(before.metrics), ...Object.keys(after.metrics)])].sort();
  const versus = link("talk", { model: model.id, revision: before.revision, with: model.id, with_revision: after.revision });
  return html`
    <section class="card" aria-label="Comparison">
      <div class="row row-apart card-title"><h2>Revisions ${before.revision} and ${after.revision}</h2>
        <a class="button button-plain" href=${versus}>Talk to both, side by side</a></div>
      ${names.length ? html`
        <div class="table-box"><table>
          <thead><tr><th>Metric</th><th class="number">Revision ${before.revision}</th><th class="number">Revision ${after.revision}</th><th class="number">Difference</th></tr></thead>
          <tbody>${names.map((name) => html`
            <tr key=${name}><td>${titleOf(name)}</td><td class="number">${short(before.metrics[name])}</td><td class="number">${short(after.metrics[name])}</td>
              <td class="number">${difference(before.metrics[name], after.metrics[name])}</td></tr>`)}</tbody>
        </table></div>` : html`<p class="faint">Neither of them was made by a training, so there are no metrics.</p>`}
    </section>`;
}

function difference(before, after) {
  if (before === undefined || after === undefined) return "–";
  const found = after - before;
  return `${found > 0 ? "+" : ""}${short(found)}`;
}

function titleOf(name) {
  return name === "kl" ? "KL" : name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
}

/** Downloads with the key in a header, so a plain link cannot do it; then gives the bytes a link of their own. */
async function save(path) {
  try {
    const { blob, name } = await download(path);
    const url = URL.createObjectURL(blob);
    const anchor = Object.assign(document.createElement("a"), { href: url, download: name });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (failure) {
    toastError(failure);
  }
}
