// The conversation of the page Talk. It outlives the page, and is forgotten at sign-out; nothing of it is stored.
//
//   pane    one model and revision that answers; there may be two, side by side
//   round   a question with one answer of each pane
import { computed, signal } from "./view.js";
import { Answer } from "./answer.js";
import { onSignOut } from "./session.js";

const NO_SETTINGS = { temperature: "", top_p: "", max_tokens: "", seed: "" };
let number = 0;

export const panes = signal([{ model: null, revision: null }]);
export const rounds = signal([]);
export const systemMessage = signal("");
export const settings = signal(NO_SETTINGS);
/** The question that is being written. */
export const question = signal("");

export const isAnswering = computed(() => rounds.value.some((round) => round.answers.some((each) => each?.state.value === "streaming")));

export function startAnew() {
  stop();
  rounds.value = [];
}

onSignOut(() => {
  startAnew();
  panes.value = [{ model: null, revision: null }];
  systemMessage.value = "";
  settings.value = NO_SETTINGS;
  question.value = "";
});

export function setPane(index, pane) {
  panes.value = panes.value.map((each, place) => (place === index ? pane : each));
}

/** Returns the reference of a pane, such as `model42@1`. */
export function refOf({ model, revision }) {
  return revision === null ? model : `${model}@${revision}`;
}

/** Asks all panes. */
export function ask(text) {
  rounds.value = [...rounds.value, answered({ id: ++number, question: text }, rounds.value)];
}

/** Asks a round again, with another question if one is given. The rounds after it are dropped. */
export function askAgain(id, text) {
  stop();
  const place = rounds.value.findIndex((each) => each.id === id);
  const earlier = rounds.value.slice(0, place);
  rounds.value = [...earlier, answered({ id: ++number, question: text ?? rounds.value[place].question }, earlier)];
}

/** Lets one pane answer the last round again. */
export function retry(index) {
  const earlier = rounds.value.slice(0, -1);
  const last = rounds.value.at(-1);
  last.answers[index]?.stop();
  const answers = panes.value.map((pane, place) => (place === index ? begun(pane, index, last.question, earlier) : last.answers[place]));
  rounds.value = [...earlier, { ...last, answers }];
}

export function stop() {
  for (const round of rounds.value) for (const answer of round.answers) answer?.stop();
}

function answered(round, earlier) {
  return { ...round, answers: panes.value.map((pane, index) => begun(pane, index, round.question, earlier)) };
}

function begun(pane, index, text, earlier) {
  const answer = new Answer(refOf(pane));
  answer.ask(messagesOf(index, text, earlier), chosenSettings());
  return answer;
}

/** Returns the messages that lead to the answer of a round, the question included. */
export function messagesBefore(id, index) {
  const place = rounds.value.findIndex((each) => each.id === id);
  return messagesOf(index, rounds.value[place].question, rounds.value.slice(0, place));
}

/** A pane without an answer of its own in an earlier round goes on from the other pane's. */
function messagesOf(index, text, earlier) {
  const messages = systemMessage.value.trim() ? [{ role: "system", content: systemMessage.value }] : [];
  for (const round of earlier) {
    const found = [round.answers[index], ...round.answers].find((each) => each && !each.text.value.isEmpty);
    if (!found) continue;
    messages.push({ role: "user", content: round.question }, { role: "assistant", content: String(found.text.value) });
  }
  return [...messages, { role: "user", content: text }];
}

function chosenSettings() {
  const given = Object.entries(settings.value).filter(([, value]) => String(value).trim() !== "");
  return Object.fromEntries(given.map(([name, value]) => [name, Number(value)]));
}
