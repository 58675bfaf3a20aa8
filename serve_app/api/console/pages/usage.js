// `#/usage`: tokens and seconds by day and by model, as a chart, a table, and a file.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { count, dateTime, seconds, short } from "../core/format.js";
import { saveFile } from "../core/save_file.js";
import { useResource } from "../core/resource.js";
import { Button, Empty, ErrorBox, PageHead, Skeleton } from "../components/basics.js";
import { Plot } from "../components/curves.js";
import { SelectField } from "../components/fields.js";

const COLUMNS = {
  requests: "Generations", input_tokens: "Prompt tokens", output_tokens: "Answer tokens", trained_tokens: "Trained tokens",
  generation_seconds: "Generation time", training_seconds: "Training time",
};
const SPANS = [7, 30, 90, 365];
const DAY_MS = 86_400_000;

export function Usage() {
  const [numDays, setNumDays] = useState("30");
  const [by, setBy] = useState("day");
  const from = dayOf(Date.now() - (Number(numDays) - 1) * DAY_MS);
  const query = { from, by };
  const { data, error, reload } = useResource((signal) => call("GET", "v1/usage", { query, signal }), [numDays, by]);
  const report = data?.by === by ? data : null;
  return html`
    <${PageHead} title="Usage" lead="Your tokens and seconds. Days are those of UTC, and the last half minute may still be missing."
      actions=${html`<${Button} icon="download" disabled=${!report?.data.length} onClick=${() => saveFile(csvOf(report), `usage-by-${by}-${report.from}-${report.to}.csv`, "text/csv")}>Save as CSV<//>`} />
    <div class="row row-apart">
      <div class="segments" role="group" aria-label="Rows">
        ${["day", "model"].map((each) => html`<button key=${each} type="button" aria-pressed=${by === each} onClick=${() => setBy(each)}>By ${each}</button>`)}
      </div>
      <div class="span"><${SelectField} label="Time" value=${numDays} onInput=${setNumDays} options=${SPANS.map((each) => ({ value: String(each), title: `Last ${each} days` }))} /></div>
    </div>
    ${error && html`<${ErrorBox} error=${error} retry=${reload} />`}
    ${!report && !error && html`<${Skeleton} lines=${6} />`}
    ${report && html`<${Report} report=${report} />`}`;
}

const dayOf = (time) => new Date(time).toISOString().slice(0, 10);

function Report({ report }) {
  const { data, total, by, budgets } = report;
  return html`
    ${budgets.map((budget) => html`
      <section class="card form" key=${budget.period} aria-label=${`Budget of the ${budget.period}`}>
        <div class="row row-apart"><h2>Tokens of this ${budget.period}</h2><span>${count(budget.used_tokens)} of ${count(budget.max_tokens)}</span></div>
        <progress max=${budget.max_tokens} value=${Math.min(budget.used_tokens, budget.max_tokens)} aria-label="Tokens used"></progress>
        <p class="faint">It begins anew at ${dateTime(budget.resets_at)}.</p>
      </section>`)}
    ${!data.length ? html`<${Empty} icon="usage" title="Nothing in this time">Talk to a model or teach one. Then it appears here.<//>` : html`
      ${by === "day" && html`
        <section class="card" aria-label="Tokens by day"><h2 class="card-title">Tokens by day</h2>
          <${Plot} isTime isBars height=${220} x=${daysOf(report).map((day) => Date.parse(day) / 1000)} series=${[{ title: "Tokens", values: tokensByDay(report) }]}
            label=${`Tokens by day, at most ${short(Math.max(...data.map(tokensOf)))}`} /></section>`}
      ${by === "model" && html`<${ModelBars} data=${data} />`}
      <section class="card" aria-label="All numbers"><div class="table-box" tabindex="0" role="group" aria-label="Table of usage">
        <table><thead><tr><th>${by === "day" ? "Day" : "Model"}</th>${Object.values(COLUMNS).map((title) => html`<th key=${title} class="number">${title}</th>`)}</tr></thead>
          <tbody>${data.toReversed().map((row) => html`<${Row} key=${row[by]} name=${row[by]} row=${row} />`)}<${Row} name="Total" row=${total} isTotal /></tbody></table>
      </div></section>`}`;
}

const tokensOf = (row) => row.input_tokens + row.output_tokens + row.trained_tokens;

/** Returns all days of the report, those without tokens too. */
function daysOf({ from, to }) {
  const number = Math.round((Date.parse(to) - Date.parse(from)) / DAY_MS) + 1;
  return Array.from({ length: number }, (_, index) => dayOf(Date.parse(from) + index * DAY_MS));
}

function tokensByDay(report) {
  const tokens = new Map(report.data.map((row) => [row.day, tokensOf(row)]));
  return daysOf(report).map((day) => tokens.get(day) ?? 0);
}

function ModelBars({ data }) {
  const most = Math.max(...data.map(tokensOf), 1);
  return html`
    <section class="card form" aria-label="Tokens by model"><h2>Tokens by model</h2>
      ${data.map((row) => html`<div key=${row.model}><div class="row row-apart"><span class="text"><bdi>${row.model}</bdi></span><span class="number">${count(tokensOf(row))}</span></div>
        <progress max=${most} value=${tokensOf(row)} aria-label=${`Tokens of ${row.model}`}></progress></div>`)}
    </section>`;
}

export function Row({ name, row, isTotal = false }) {
  return html`<tr class=${isTotal ? "total" : ""}><th scope="row"><bdi>${name}</bdi></th>
    ${Object.keys(COLUMNS).map((column) => html`<td key=${column} class="number">${column.endsWith("_seconds") ? seconds(row[column]) : count(row[column])}</td>`)}</tr>`;
}

/** Returns the report as CSV. A text that a spreadsheet would take for a formula gets a quote before it. */
export function csvOf({ by, data }) {
  const columns = [by, ...Object.keys(COLUMNS)];
  const cell = (value) => {
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...data.map((row) => columns.map((name) => row[name]))].map((row) => `${row.map(cell).join(",")}\n`).join("");
}
