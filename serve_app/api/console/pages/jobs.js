// `#/jobs`: the trainings of this person. `#/jobs/<id>` is one of them.
import { html, useEffect, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { short } from "../core/format.js";
import { useResource } from "../core/resource.js";
import { link } from "../core/router.js";
import { toastError } from "../core/toasts.js";
import { hasEnded, useTraining } from "../core/training.js";
import { Button, Empty, ErrorBox, PageHead, Skeleton, Text } from "../components/basics.js";
import { Created, StatusBadge, TrainingView } from "../components/training_view.js";

const PAGE_SIZE = 20;
const POLL_MS = 3000;

export function Jobs({ parts }) {
  return parts.length ? html`<${OneJob} key=${parts[0]} id=${parts[0]} />` : html`<${List} />`;
}

function OneJob({ id }) {
  const training = useTraining(id);
  return html`
    <${PageHead} title="Training" lead=${html`<code>${id}</code>`} back=${{ href: link("jobs"), title: "Jobs" }} />
    <${TrainingView} training=${training} />`;
}

function List() {
  const [older, setOlder] = useState([]);
  const [hasMore, setHasMore] = useState(null);
  const { data, error, reload } = useResource((signal) => call("GET", "v1/jobs", { query: { limit: PAGE_SIZE }, signal }), []);
  const isLive = data?.some((job) => !hasEnded(job)) ?? false;
  useEffect(() => {
    if (!isLive && !error) return undefined;
    const timer = setInterval(() => document.hidden || reload(), POLL_MS);
    return () => clearInterval(timer);
  }, [isLive, Boolean(error)]);
  async function more() {
    try {
      const after = (older.at(-1) ?? data.at(-1)).id;
      const found = await call("GET", "v1/jobs", { query: { limit: PAGE_SIZE, after } });
      setOlder([...older, ...found]);
      setHasMore(found.length === PAGE_SIZE);
    } catch (failure) {
      toastError(failure);
    }
  }
  const known = new Set(data?.map((job) => job.id));
  const jobs = [...(data ?? []), ...older.filter((job) => !known.has(job.id))];
  return html`
    <${PageHead} title="Jobs" lead="Every training, newest first. Those that wait or run show it as it happens." />
    ${error && html`<${ErrorBox} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Skeleton} lines=${6} />`}
    ${data && (jobs.length ? html`<${Table} jobs=${jobs} />` : html`
      <${Empty} icon="jobs" title="No training yet" action=${html`<a class="button button-main" href=${link("teach")}>Teach a model</a>`}>
        A training makes the next revision of a model of yours.<//>`)}
    ${data && (hasMore ?? data.length === PAGE_SIZE) && html`<div><${Button} onClick=${more}>Older ones<//></div>`}`;
}

function Table({ jobs }) {
  return html`
    <section class="card" aria-label="Trainings">
      <div class="table-box" tabindex="0" role="group" aria-label="Table of trainings">
        <table>
          <thead><tr><th>Model</th><th>Status</th><th>Accepted</th><th>Steps</th><th class="number">Revision</th><th class="number">Loss</th></tr></thead>
          <tbody>${jobs.map((job) => html`
            <tr key=${job.id}>
              <td class="name"><a href=${link("jobs", job.id)}><${Text}>${job.model}<//></a></td>
              <td><${StatusBadge} status=${job.status} />${job.error && html`<span class="faint reason"><${Text}>${job.error.message}<//></span>`}</td>
              <td class="nowrap"><${Created} job=${job} /></td>
              <td><span class="row nowrap"><progress max=${job.steps} value=${job.step} aria-label=${`Steps of ${job.model}`}></progress><span class="faint">${job.step}/${job.steps}</span></span></td>
              <td class="number">${job.revision ?? "–"}</td>
              <td class="number">${short(job.metrics.loss)}</td>
            </tr>`)}</tbody>
        </table>
      </div>
    </section>`;
}
