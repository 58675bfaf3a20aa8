// Questions with answers next to each other, and a reward for each answer.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { toastError } from "../core/toasts.js";
import { addEntry, changeEntry, newGroup, newId, promptOf, teaching } from "../core/teaching.js";
import { Badge, Button, Text } from "../components/basics.js";
import { Icon } from "../components/icons.js";
import { NumberField, TextField, numberOf, useFocus } from "../components/fields.js";

const LONG_CHARACTERS = 4000;

export function Groups({ model }) {
  const { groups } = teaching.value;
  return html`
    ${groups.map((group, index) => html`<${Group} key=${group.id} group=${group} number=${index + 1} model=${model} isOnly=${groups.length === 1} />`)}
    <div><${Button} icon="plus" onClick=${() => addEntry("groups", newGroup())}>Add another question<//></div>`;
}

function Group({ group, number, model, isOnly }) {
  const [numAnswers, setNumAnswers] = useState("4");
  const [temperature, setTemperature] = useState("");
  const [maxTokens, setMaxTokens] = useState("128");
  const change = (fields) => changeEntry("groups", group.id, fields);
  const setAnswers = (answers) => change({ answers });
  async function ask() {
    const body = {
      model: model.id, messages: promptOf(group), n: numberOf(numAnswers), max_tokens: numberOf(maxTokens), temperature: numberOf(temperature),
    };
    try {
      const { responses, revision } = await call("POST", "v1/generate_response", { body });
      const found = responses.map(({ content, stop_reason }) => ({ id: newId(), content, stop_reason, reward: 0.5, origin: `revision ${revision}` }));
      const now = teaching.value.groups.find((each) => each.id === group.id);
      if (now) setAnswers([...now.answers, ...found]);
    } catch (error) {
      toastError(error);
    }
  }
  const write = () => setAnswers([...group.answers, { id: newId(), content: "", reward: 1, isOwn: true, origin: "yours" }]);
  const setAnswer = (id, fields) => setAnswers(group.answers.map((each) => (each.id === id ? { ...each, ...fields } : each)));
  const setBest = (id) => setAnswers(group.answers.map((each) => ({ ...each, reward: each.id === id ? 1 : 0 })));
  return html`
    <section class="card form" aria-label=${`Question ${number}`}>
      <div class="row row-apart"><h2>Question ${number}</h2>
        ${!isOnly && html`<${Button} kind="quiet" icon="trash" label=${`Remove question ${number}`} onClick=${() => changeEntry("groups", group.id, null)} />`}</div>
      ${group.history.length > 0 && html`
        <details><summary>After ${group.history.length} earlier messages</summary>
          <ol class="events">${group.history.map(({ role, content }, index) => html`<li key=${index}>${role}: <${Text}>${content}<//></li>`)}</ol></details>`}
      <${TextField} label="Question" multiline rows=${2} value=${group.question} placeholder="Name a fruit." onInput=${(question) => change({ question })} />
      <details><summary>System message, number of answers, temperature</summary>
        <div class="form">
          <${TextField} label="System message" optional multiline rows=${2} value=${group.system} onInput=${(system) => change({ system })} />
          <div class="form-grid">
            <${NumberField} label="Answers at a time" min="1" max="64" step="1" value=${numAnswers} onInput=${setNumAnswers} />
            <${NumberField} label="Temperature" min="0" max="2" placeholder=${String(model.temperature)} value=${temperature} onInput=${setTemperature} hint="Higher makes the answers differ more." />
            <${NumberField} label="Longest answer, in tokens" min="1" step="1" value=${maxTokens} onInput=${setMaxTokens} />
          </div>
        </div>
      </details>
      <div class="row">
        <${Button} kind=${group.answers.length ? "plain" : "main"} icon="talk" disabled=${!group.question.trim()} onClick=${ask}>${group.answers.length ? "Get more answers" : "Get answers"}<//>
        <${Button} icon="edit" onClick=${write}>Write an answer<//>
      </div>
      ${group.answers.length > 0 && html`
        <div class="choices">
          ${group.answers.map((answer, index) => html`
            <${Answer} key=${answer.id} answer=${answer} number=${index + 1} isBest=${isBest(answer, group.answers)}
              change=${(fields) => setAnswer(answer.id, fields)} best=${() => setBest(answer.id)}
              remove=${() => setAnswers(group.answers.filter((each) => each.id !== answer.id))} />`)}
        </div>`}
    </section>`;
}

function isBest(answer, answers) {
  return answers.every((each) => each.id === answer.id || each.reward < answer.reward);
}

function Answer({ answer, number, isBest: best, change, best: chooseBest, remove }) {
  const name = `answer ${number}`;
  const setReward = (text) => change({ reward: text === "" ? NaN : Number(text) });
  return html`
    <article class=${`choice ${best ? "choice-best" : ""}`} aria-label=${`Answer ${number}`}>
      <div class="row row-apart"><span class="faint">${number} · ${answer.origin}</span>
        ${best && html`<${Badge} kind="good">best<//>`}
        <${Button} kind="quiet button-small" icon="close" label=${`Remove ${name}`} onClick=${remove} /></div>
      ${answer.isOwn
        ? html`<${OwnText} label=${`Text of ${name}`} text=${answer.content} onInput=${(content) => change({ content })} />`
        : html`<${LongText} text=${answer.content} />`}
      <div class="reward">
        <div class="row">
          <button type="button" class="thumb" aria-label=${`Good: ${name}`} aria-pressed=${answer.reward === 1} onClick=${() => change({ reward: 1 })}><${Icon} name="good" /></button>
          <button type="button" class="thumb" aria-label=${`Bad: ${name}`} aria-pressed=${answer.reward === 0} onClick=${() => change({ reward: 0 })}><${Icon} name="bad" /></button>
          <${Button} kind="plain button-small" aria-label=${`Best: ${name}`} onClick=${chooseBest}>Best<//>
        </div>
        <div class="row reward-values">
          <input type="range" min="0" max="1" step="0.05" aria-label=${`Reward of ${name}, as a slider`} value=${answer.reward} onInput=${(event) => setReward(event.currentTarget.value)} />
          <input type="number" step="any" class="reward-number" aria-label=${`Reward of ${name}`} value=${Number.isNaN(answer.reward) ? "" : answer.reward} onInput=${(event) => setReward(event.currentTarget.value)} />
        </div>
      </div>
    </article>`;
}

/** The text of an answer of this person. An empty one takes the focus when it appears. */
function OwnText({ label, text, onInput }) {
  const area = useFocus(!text);
  return html`<textarea ref=${area} dir="auto" rows="4" aria-label=${label} placeholder="Write the answer that you would like." value=${text} onInput=${(event) => onInput(event.currentTarget.value)}></textarea>`;
}

/** A text of which only the beginning is shown at first if it is very long. */
export function LongText({ text }) {
  const [isWhole, setWhole] = useState(false);
  const isLong = text.length > LONG_CHARACTERS && !isWhole;
  return html`
    <div class="choice-text" tabindex="0"><${Text} block>${isLong ? `${text.slice(0, LONG_CHARACTERS)}…` : text || "(empty)"}<//>
      ${isLong && html`<${Button} kind="quiet button-small" onClick=${() => setWhole(true)}>Show all ${text.length} characters<//>`}</div>`;
}
