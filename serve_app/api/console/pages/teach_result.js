// A training that was started on the page Teach, and the same questions before and after it.
import { html, useEffect, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { loadModels } from "../core/models.js";
import { setTeaching, teachAnew, teaching } from "../core/teaching.js";
import { useTraining } from "../core/training.js";
import { Button, ErrorBox, Skeleton, Text } from "../components/basics.js";
import { TrainingView } from "../components/training_view.js";
import { LongText } from "./teach_groups.js";

const MAX_QUESTIONS = 4;
const MAX_TOKENS = 96;

export function Taught() {
  const { job } = teaching.value;
  const training = useTraining(job.id);
  const isDone = training.job?.status === "succeeded";
  useEffect(() => { if (isDone) loadModels({ quiet: true }); }, [isDone]);
  const again = () => setTeaching({ job: null });
  return html`
    <${TrainingView} training=${training} />
    ${isDone && html`<${BeforeAndAfter} model=${training.job.model} before=${job.before} after=${training.job.revision} questions=${job.questions.slice(0, MAX_QUESTIONS)} />`}
    <div class="row">
      <${Button} kind=${isDone ? "main" : "plain"} icon="retry" onClick=${again}>Teach the same again<//>
      <${Button} icon="plus" onClick=${teachAnew}>Teach something new<//>
    </div>`;
}

function BeforeAndAfter({ model, before, after, questions }) {
  if (!questions.length) return null;
  return html`
    <section class="card form" aria-label="Before and after">
      <h2>The same question, before and after</h2>
      ${questions.map((messages, index) => html`<${Pair} key=${index} messages=${messages} model=${model} revisions=${[before, after]} />`)}
      <p class="hint">One training changes a model a little. Teach the same again to change it more, or raise the learning rate or the steps.</p>
    </section>`;
}

function Pair({ messages, model, revisions }) {
  return html`
    <div class="form">
      <p class="label"><${Text} block>${messages.at(-1).content}<//></p>
      <div class="choices">${revisions.map((revision, index) => html`
        <article key=${revision} class=${`choice ${index ? "choice-best" : ""}`} aria-label=${index ? "After" : "Before"}>
          <span class="faint">${index ? "After" : "Before"}: revision ${revision}</span><${Asked} reference=${`${model}@${revision}`} messages=${messages} /></article>`)}</div>
    </div>`;
}

/** The most probable answer of one revision. */
function Asked({ reference, messages }) {
  const [state, setState] = useState({});
  async function ask(signal) {
    setState({});
    try {
      const body = { model: reference, messages, temperature: 0, max_tokens: MAX_TOKENS };
      const { message } = await call("POST", "v1/generate_response", { body, signal });
      setState({ text: message.content });
    } catch (error) {
      if (!signal?.aborted) setState({ error });
    }
  }
  useEffect(() => {
    const stopping = new AbortController();
    ask(stopping.signal);
    return () => stopping.abort();
  }, [reference]);
  if (state.error) return html`<${ErrorBox} error=${state.error} retry=${() => ask()} />`;
  return state.text === undefined ? html`<${Skeleton} lines=${2} />` : html`<${LongText} text=${state.text} />`;
}
