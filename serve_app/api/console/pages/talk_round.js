// One question with its answers, each of which can be copied, edited, asked for again, and taught from.
import { html, useState } from "../core/view.js";
import { askAgain, isAnswering, messagesBefore, panes, retry } from "../core/conversation.js";
import { count, seconds } from "../core/format.js";
import { toTeach } from "../core/handoff.js";
import { models } from "../core/models.js";
import { go } from "../core/router.js";
import { Button, CopyButton, Text } from "../components/basics.js";
import { useFocus } from "../components/fields.js";
import { Growing, Told } from "../components/growing.js";
import { Icon } from "../components/icons.js";
import { hasPage } from "./all.js";

export function Round({ round, isLast }) {
  const [isEdited, setEdited] = useState(false);
  return html`
    <article class="round">
      ${isEdited ? html`
        <${Editor} text=${round.question} label="Your question" action="Ask again" hint=${isLast ? "" : "What follows it is dropped."}
          onCancel=${() => setEdited(false)} onSave=${(text) => { setEdited(false); askAgain(round.id, text); }} />` : html`
        <div class="question">
          <${Button} kind="quiet button-small" icon="edit" label="Edit this question" disabled=${isAnswering.value} onClick=${() => setEdited(true)} />
          <div class="bubble"><span class="hidden">You: </span><${Text} block>${round.question}<//></div>
        </div>`}
      <div class=${round.answers.length === 2 ? "panes panes-two" : "panes"}>
        ${round.answers.map((answer, index) => answer && html`
          <${AnswerView} key=${index} answer=${answer} round=${round} index=${index} canRetry=${isLast && index < panes.value.length} />`)}
      </div>
    </article>`;
}

function AnswerView({ answer, round, index, canRetry }) {
  const [isEdited, setEdited] = useState(false);
  const state = answer.state.value;
  const text = answer.text.value;
  text.version.value;
  const isStreaming = state === "streaming";
  if (isEdited) {
    return html`<${Editor} text=${String(text)} label="The answer" action="Save" hint="The conversation goes on from your text."
      onCancel=${() => setEdited(false)} onSave=${(written) => { answer.edit(written); setEdited(false); }} />`;
  }
  return html`
    <section class="answer" aria-label=${`Answer of ${nameOf(answer)}`}>
      <p class="answer-name"><${Text}>${nameOf(answer)}<//></p>
      ${isStreaming && text.isEmpty && html`<p class="waiting" role="status"><span class="spinner" aria-hidden="true"></span>${answer.info.value || "Thinking…"}</p>`}
      ${!text.isEmpty && html`<${Growing} text=${text} isStreaming=${isStreaming} />`}
      ${state === "done" && text.isEmpty && html`<p class="faint">The model said nothing.</p>`}
      ${state === "failed" && html`<${Failure} error=${answer.error.value} hasText=${!text.isEmpty} again=${canRetry ? () => retry(index) : null} />`}
      ${index === 0 && html`<${Told} text=${text} isStreaming=${isStreaming} />`}
      <div class="tools">
        <span class="faint">${measures(answer, state)}</span>
        ${!isStreaming && !text.isEmpty && html`
          <span class="row tools-row">
            <${CopyButton} text=${String(text)} />
            <${Button} kind="quiet button-small" icon="edit" label="Edit this answer" disabled=${isAnswering.value} onClick=${() => setEdited(true)} />
            ${canRetry && state !== "failed" && html`<${Button} kind="quiet button-small" icon="retry" label="Another answer" onClick=${() => retry(index)} />`}
            ${canTeach(answer) && html`<${Button} kind="quiet button-small" icon="teach" onClick=${() => teach(answer, round, index)}>Teach<//>`}
          </span>`}
      </div>
    </section>`;
}

/** The name of the model and the revision that answered, or that was asked. */
function nameOf(answer) {
  const result = answer.result.value;
  const [id, revision] = answer.ref.split("@");
  const model = models.value.list?.find((each) => each.id === id);
  const number = result?.revision ?? revision;
  return `${model?.name ?? id}${number !== undefined && !model?.read_only ? `, revision ${number}` : ""}`;
}

function measures(answer, state) {
  const result = answer.result.value;
  if (state === "streaming") return seconds(answer.elapsedS.value);
  if (state === "stopped") return `stopped after ${seconds(answer.elapsedS.value)}`;
  if (!result) return "";
  const { input_tokens: read, output_tokens: written, duration } = result.usage;
  const rate = duration > 0 ? ` · ${count(Math.round(written / duration))} tokens/s` : "";
  const cut = result.stop_reason === "max_tokens" ? " · cut at the largest number of tokens" : "";
  return `${count(read)} + ${count(written)} tokens · ${seconds(duration)}${rate}${cut}`;
}

function Failure({ error, hasText, again }) {
  const isLost = error.code === "unreachable";
  return html`
    <div class="notice notice-bad" role="alert">
      <${Icon} name="warning" />
      <p><${Text}>${isLost ? `The connection broke${hasText ? ", so the answer is not whole" : ""}. The service may be restarting.` : error.message}<//></p>
      ${again && html`<${Button} kind="plain button-small" icon="retry" onClick=${again}>Ask again<//>`}
    </div>`;
}

function Editor({ text, label, action, hint, onSave, onCancel }) {
  const [written, setWritten] = useState(text);
  const area = useFocus();
  return html`
    <form class="editor" onSubmit=${(event) => { event.preventDefault(); onSave(written); }}>
      <textarea ref=${area} aria-label=${label} dir="auto" rows=${Math.min(12, written.split("\n").length + 1)} value=${written}
        onInput=${(event) => setWritten(event.currentTarget.value)} onKeyDown=${(event) => { if (event.key === "Escape") onCancel(); }}></textarea>
      <div class="row row-apart"><span class="hint">${hint}</span>
        <span class="row"><${Button} onClick=${onCancel}>Cancel<//><${Button} kind="main" type="submit" disabled=${!written.trim()}>${action}<//></span></div>
    </form>`;
}

/** Only a private model can learn. */
function canTeach(answer) {
  const model = models.value.list?.find((each) => each.id === answer.ref.split("@")[0]);
  return hasPage("teach") && model !== undefined && !model.read_only;
}

function teach(answer, round, index) {
  const model = answer.ref.split("@")[0];
  toTeach.value = { model, messages: messagesBefore(round.id, index), responses: [{ content: String(answer.text.value) }] };
  go("teach", model);
}
