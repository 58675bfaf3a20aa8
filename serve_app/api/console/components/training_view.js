// A training as it happens: its place in the queue, its steps, its curves, its events, and how it ended.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { dateTime, seconds, short, timeAgo } from "../core/format.js";
import { useResource } from "../core/resource.js";
import { link } from "../core/router.js";
import { toast, toastError } from "../core/toasts.js";
import { curvesOf, hasEnded } from "../core/training.js";
import { Badge, Button, ErrorBox, Skeleton, Text } from "./basics.js";
import { Curves } from "./curves.js";

export const STATUS = {
  queued: ["plain", "waiting"], running: ["accent", "running"], paused: ["plain", "paused"], succeeded: ["good", "done"],
  failed: ["bad", "failed"], cancelled: ["plain", "cancelled"],
};

export function StatusBadge({ status }) {
  const [kind, title] = STATUS[status] ?? ["plain", status];
  return html`<${Badge} kind=${kind}>${title}<//>`;
}

/** `training` is what `useTraining` returns. */
export function TrainingView({ training }) {
  const { job, events, error, isBroken, reload } = training;
  if (!job) return error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Skeleton} lines=${4} />`;
  const step = Math.max(job.step, ...events.filter((each) => each.type === "progress").map((each) => each.step), 0);
  const isOver = hasEnded(job);
  return html`
    <section class="card form" aria-label="Training">
      <div class="row row-apart">
        <div class="row"><${StatusBadge} status=${job.status === "queued" && step > 0 ? "running" : job.status} /><h2>Training of <${Text}>${job.model}<//></h2></div>
        <${Actions} job=${job} reload=${reload} />
      </div>
      ${isBroken && html`<p class="notice" role="alert"><span class="spinner" aria-hidden="true"></span>
        <span>The connection broke off. The training goes on; this page does too as soon as the service answers.</span></p>`}
      ${error && html`<${ErrorBox} error=${error} retry=${reload} />`}
      <${Progress} job=${job} step=${step} events=${events} />
      ${job.error && html`<p class="notice notice-bad" role="alert"><${Text}>${job.error.message}<//></p>`}
      <${Curves} curves=${curvesOf(events)} />
      ${job.checkpoints?.length > 0 && html`<${Checkpoints} job=${job} />`}
      ${isOver && job.status === "succeeded" && html`
        <div class="row"><a class="button button-main" href=${link("talk", { model: job.model })}>Talk to revision ${job.revision}</a>
          <a class="button button-plain" href=${link("models", job.model)}>All revisions</a></div>`}
      <${Events} events=${events} isOpen=${!isOver} />
    </section>`;
}

function Progress({ job, step, events }) {
  const info = events.filter((each) => each.type === "info").at(-1)?.message ?? "";
  const isWaiting = job.status === "queued" && step === 0;
  const text = isWaiting ? html`<${QueuePlace} job=${job} />` : `Step ${step} of ${job.steps}`;
  return html`
    <div class="progress-box">
      <div class="row row-apart"><span>${text}</span>
        ${!hasEnded(job) && html`<span class="faint" role="status"><${Text}>${info}<//></span>`}</div>
      <progress max=${job.steps} value=${step} aria-label="Steps made"></progress>
      <p class="faint">${job.finished ? html`Ended ${timeAgo(job.finished)}${job.started && `, after ${seconds((Date.parse(job.finished) - Date.parse(job.started)) / 1000)}`}` : `Accepted ${timeAgo(job.created)}`}</p>
    </div>`;
}

/** The revisions of earlier epochs. They answer also while the training goes on, and stay if it fails. */
function Checkpoints({ job }) {
  return html`
    <div class="row"><span class="faint">Talk to an earlier epoch:</span>
      ${job.checkpoints.map(({ revision, step }) => html`
        <a key=${revision} class="button button-plain button-small" href=${link("talk", { model: job.model, revision })}>Revision ${revision}, step ${step}</a>`)}
    </div>`;
}

/** How many trainings of this person come before this one. Those of others take turns with theirs. */
function QueuePlace({ job }) {
  const { data } = useResource((signal) => call("GET", "v1/jobs", { query: { limit: 100 }, signal, quiet: true }), [job.id, job.status]);
  const before = data?.filter((each) => each.id !== job.id && !hasEnded(each) && each.created < job.created).length ?? 0;
  return before ? `Waiting: ${short(before)} of your trainings come${before === 1 ? "s" : ""} first` : "Waiting: it is your next training";
}

function Actions({ job, reload }) {
  const act = (action, message) => async () => {
    try {
      await call("POST", `v1/jobs/${encodeURIComponent(job.id)}/${action}`);
      toast(message, "good");
      reload();
    } catch (error) {
      toastError(error);
    }
  };
  if (hasEnded(job)) return null;
  const mayPause = "checkpoints" in job; // the service of a former release has no such routes
  return html`
    <div class="row">
      ${mayPause && job.status !== "paused" && html`<${Button} onClick=${act("pause", "The training pauses after its step.")}>Pause<//>`}
      ${job.status === "paused" && html`<${Button} kind="main" onClick=${act("resume", "The training goes on.")}>Resume<//>`}
      <${Button} kind="bad" onClick=${act("cancel", "The training is cancelled. It makes no revision.")}>Cancel<//>
    </div>`;
}

function Events({ events, isOpen }) {
  const [isShown, setShown] = useState(isOpen);
  const lines = events.filter((each) => each.type !== "progress");
  if (!lines.length) return null;
  return html`
    <details open=${isShown} onToggle=${(event) => setShown(event.currentTarget.open)}><summary>What happened</summary>
      <ol class="events">${lines.slice(-200).map((event, index) => html`<li key=${index}><${Text}>${messageOf(event)}<//></li>`)}</ol>
    </details>`;
}

function messageOf(event) {
  if (event.type === "stop") return `Revision ${event.revision} is current.`;
  return event.message ?? event.type;
}

/** When a job was accepted, for lists. */
export function Created({ job }) {
  return html`<time datetime=${job.created} title=${dateTime(job.created)}>${timeAgo(job.created)}</time>`;
}
