// `#/operator`: the state of the service and the totals of all users, for those whom the settings name as operators.
import { html, useEffect, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { count, seconds } from "../core/format.js";
import { me } from "../core/me.js";
import { useResource } from "../core/resource.js";
import { Badge, Button, Empty, ErrorBox, PageHead, Skeleton } from "../components/basics.js";

const POLL_MS = 5000;
const KINDS = { ready: "good", asleep: "plain", unavailable: "bad" };

export function Operator() {
  const who = me.value;
  if (who && !who.is_operator) {
    return html`<${PageHead} title="Operator" /><${Empty} icon="warning" title="This page is for operators">The settings of the service name them.<//>`;
  }
  return html`
    <${PageHead} title="Operator" lead="The state of the service, and totals of all users. Texts and models of users are not shown here."
      actions=${who?.dashboard_url && html`<a class="button button-plain" href=${who.dashboard_url} target="_blank" rel="noopener noreferrer">Ray's dashboard</a>`} />
    <${BaseModels} /><${Users} />`;
}

function BaseModels() {
  const { data, error, reload } = useResource((signal) => call("GET", "v1/operator/base_models", { signal }), []);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || reload(), POLL_MS);
    return () => clearInterval(timer);
  }, []);
  if (!data) return error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Skeleton} />`;
  return html`
    <section class="card" aria-label="Base models"><h2 class="card-title">Base models</h2><div class="table-box" tabindex="0" role="group" aria-label="Table of base models">
      <table><thead><tr><th>Base model</th><th>Status</th><th class="number">Replicas</th><th class="number">Generations in each</th></tr></thead>
        <tbody>${data.map((model) => html`
          <tr key=${model.id}><th scope="row"><bdi>${model.name}</bdi></th><td><${Badge} kind=${KINDS[model.status]}>${model.status}<//></td>
            <td class="number">${model.replicas.length} of ${model.max_replicas}</td>
            <td class="number">${model.replicas.map(({ generations }) => generations ?? "fault").join(", ") || "–"}</td></tr>`)}</tbody></table>
    </div></section>`;
}

function Users() {
  const [after, setAfter] = useState([]);
  const { data, error, reload } = useResource((signal) => call("GET", "v1/operator/users", { query: { after: after.at(-1) }, signal }), [after.at(-1)]);
  if (!data) return error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Skeleton} />`;
  return html`
    <section class="card" aria-label="Users"><h2 class="card-title">Users, from ${data.from} to ${data.to}</h2><div class="table-box" tabindex="0" role="group" aria-label="Table of users">
      <table><thead><tr><th>User</th><th class="number">Trainings now</th><th class="number">Generations</th><th class="number">Prompt tokens</th><th class="number">Answer tokens</th><th class="number">Trained tokens</th><th class="number">Time</th></tr></thead>
        <tbody>${data.data.map((row) => html`
          <tr key=${row.user}><th scope="row">${row.user}</th><td class="number">${row.unfinished_trainings}</td><td class="number">${count(row.requests)}</td><td class="number">${count(row.input_tokens)}</td>
            <td class="number">${count(row.output_tokens)}</td><td class="number">${count(row.trained_tokens)}</td><td class="number">${seconds(row.generation_seconds + row.training_seconds)}</td></tr>`)}</tbody></table></div>
      <div class="row">
        <${Button} disabled=${!after.length} onClick=${() => setAfter(after.slice(0, -1))}>Before<//>
        <${Button} disabled=${!data.has_more} onClick=${() => setAfter([...after, data.data.at(-1).user])}>Next<//>
      </div>
    </section>`;
}
