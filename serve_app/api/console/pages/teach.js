// `#/teach`: say which answers are good, and watch the model learn them.
import { html, useEffect, useRef, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { toTeach } from "../core/handoff.js";
import { loadModels, models } from "../core/models.js";
import { link } from "../core/router.js";
import { missingOf, questionsOf, requestOf, setTeaching, takeOver, teaching } from "../core/teaching.js";
import { Button, Empty, ErrorBox, PageHead, Skeleton } from "../components/basics.js";
import { SelectField } from "../components/fields.js";
import { Examples } from "./teach_examples.js";
import { Groups } from "./teach_groups.js";
import { Hyperparameters } from "./teach_values.js";
import { Taught } from "./teach_result.js";

const SLOW_RATE = 1e-4;
const METHODS = {
  grpo: ["Rewards", "Compare answers and give each a reward. The model learns to prefer the better ones."],
  supervised: ["Examples", "Show the answers that you want. The model learns to say them."],
  dpo: ["Preferences", "Show pairs of answers. The model learns to prefer the first to the second."],
};

export function Teach({ parts }) {
  const { list, error } = models.value;
  const [wanted] = parts;
  const own = list?.filter((each) => !each.read_only) ?? [];
  useEffect(() => {
    loadModels({ quiet: true });
    if (toTeach.value) takeOver(toTeach.value);
    toTeach.value = null;
  }, []);
  useEffect(() => {
    const found = own.find((each) => each.id === wanted) ?? own.find((each) => each.id === teaching.value.model) ?? own.at(-1);
    if (found && found.id !== teaching.value.model) setTeaching({ model: found.id });
  }, [list, wanted]);
  const head = html`<${PageHead} title="Teach" lead="Show a model of yours what is good. A training makes its next revision; the ones before stay." />`;
  if (error && !list) return html`${head}<${ErrorBox} error=${error} retry=${loadModels} />`;
  if (!list) return html`${head}<${Skeleton} lines=${5} />`;
  if (!own.length) {
    return html`${head}<${Empty} icon="teach" title="First make a model of your own"
      action=${html`<a class="button button-main" href=${link("models")}>Go to the models</a>`}>
      Base models belong to everybody, so nobody can change them. A private copy takes a moment.<//>`;
  }
  if (teaching.value.job) return html`${head}<${Taught} key=${teaching.value.job.id} />`;
  return html`${head}<${Editor} own=${own} />`;
}

function Editor({ own }) {
  const taught = teaching.value;
  const model = own.find((each) => each.id === taught.model) ?? own[0];
  return html`
    <section class="card form" aria-label="Model and method">
      <div class="model-choice">
        <${SelectField} label="Model" value=${model.id} onInput=${(id) => setTeaching({ model: id })}
          options=${own.map((each) => ({ value: each.id, title: `${each.name}, revision ${each.revision}` }))} />
      </div>
      <div class="form">
        <div><div class="segments" role="group" aria-label="Method">
          ${Object.entries(METHODS).map(([name, [title]]) => html`
            <button key=${name} type="button" aria-pressed=${taught.method === name} onClick=${() => setTeaching({ method: name, values: {}, file: null, uploaded: null })}>${title}</button>`)}
        </div></div>
        <p class="hint">${METHODS[taught.method][1]}</p>
      </div>
    </section>
    ${taught.method === "grpo" ? html`<${Groups} model=${model} />` : html`<${Examples} key=${taught.method} />`}
    <${Hyperparameters} model=${model} />
    <${Start} model=${model} />`;
}

function Start({ model }) {
  const [error, setError] = useState(null);
  const attempt = useRef({ text: "", key: "" });
  const missing = missingOf(teaching.value);
  async function start() {
    const { path, body } = requestOf(teaching.value);
    const text = JSON.stringify([path, body]);
    if (attempt.current.text !== text) attempt.current = { text, key: newKey() };
    setError(null);
    try {
      const job = await call("POST", path, { body, headers: { "Idempotency-Key": attempt.current.key } });
      setTeaching({ job: { id: job.id, before: model.revision, questions: questionsOf(teaching.value) } });
      scrollTo(0, 0);
    } catch (failure) {
      setError(failure);
    }
  }
  return html`
    ${error && html`<${ErrorBox} error=${error} />`}
    <div class="start">
      <p class="hint" id="missing">${missing || `${resultOf(teaching.value, model)} ${paceOf(teaching.value, model)}`}</p>
      <${Button} kind="main" icon="teach" disabled=${Boolean(missing)} aria-describedby="missing" onClick=${start}>Teach<//>
    </div>`;
}

function resultOf({ uploaded }, model) {
  return uploaded?.suffix.trim() ? `The training makes a copy of ${model.name}.` : `The training makes revision ${model.revision + 1} or a later one.`;
}

/** Tells a person who did not choose a learning rate that the usual one is slow. */
function paceOf({ values, uploaded }, model) {
  const isSlow = !uploaded && values.learning_rate === undefined && model.learning_rate < SLOW_RATE;
  return isSlow ? "It changes the model a little. To see an effect at once, set the learning rate to 0.0002 above." : "";
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (each) => each.toString(16).padStart(2, "0")).join("");
}
