// What a person is about to teach. It stays in the storage of this tab, also if the page is loaded again, and goes when
// they sign out. The content of a file is not stored, so that each key that is pressed stores little.
import { effect, signal } from "./view.js";
import { onSignOut } from "./session.js";

const PLACE = "tiger.teaching";
let number = Date.now(); // entries that were stored have smaller ones
/** Returns a number that no other entry has, as the key of a list. */
export const newId = () => ++number;

export const newGroup = () => ({ id: newId(), system: "", history: [], question: "", answers: [] });
export const newExample = () => ({ id: newId(), question: "", answer: "" });
export const newPair = () => ({ id: newId(), question: "", preferred: "", rejected: "" });

export const newUploaded = () => ({ trainingFile: "", validationFile: "", suffix: "" });

/** `file` was read in this browser. `uploaded` names files that the service has; null: nothing of them is used. */
const fresh = () => ({
  method: "grpo", model: "", groups: [newGroup()], examples: [newExample()], pairs: [newPair()], file: null, uploaded: null, values: {}, job: null,
});

function stored() {
  try {
    return { ...fresh(), ...JSON.parse(sessionStorage.getItem(PLACE)) };
  } catch {
    return fresh();
  }
}

export const teaching = signal(stored());
effect(() => {
  try {
    sessionStorage.setItem(PLACE, JSON.stringify({ ...teaching.value, file: null }));
  } catch {
    sessionStorage.removeItem(PLACE); // it is larger than what a tab may store
  }
});
onSignOut(() => (teaching.value = fresh()));

/** Changes some fields of what is taught. */
export function setTeaching(change) {
  teaching.value = { ...teaching.value, ...change };
}

/** Forgets what was taught. The model, the method and its values stay. */
export function teachAnew() {
  const { model, method, values, uploaded } = teaching.value;
  teaching.value = { ...fresh(), model, method, values, uploaded: uploaded && newUploaded() };
}

/** Changes one entry of the list `name`: `change` is the new fields, and null removes the entry. */
export function changeEntry(name, id, change) {
  const list = teaching.value[name];
  setTeaching({
    [name]: change === null ? list.filter((each) => each.id !== id) : list.map((each) => (each.id === id ? { ...each, ...change } : each)),
  });
}

export function addEntry(name, entry) {
  setTeaching({ [name]: [...teaching.value[name], entry] });
}

const user = (content) => ({ role: "user", content });

/** Returns the conversation of a group before the answers. `history` are the messages before its question. */
export const promptOf = ({ system, history, question }) => [
  ...(system.trim() ? [{ role: "system", content: system }] : []), ...history, user(question),
];

/** Begins a group with the messages and the answer of another page. Empty groups make room for it. */
export function takeOver({ model, messages, responses }) {
  const system = messages[0]?.role === "system" ? messages[0].content : "";
  const history = messages.slice(system ? 1 : 0, -1);
  const answers = responses.map(({ content }) => ({ id: newId(), content, reward: 0.5, origin: "from Talk" }));
  const group = { ...newGroup(), system, history, question: messages.at(-1).content, answers };
  const isEmpty = ({ question, answers: given }) => !question.trim() && !given.length;
  const values = teaching.value.method === "grpo" ? teaching.value.values : {};
  setTeaching({ model, method: "grpo", values, file: null, uploaded: null, job: null, groups: [...teaching.value.groups.filter((each) => !isEmpty(each)), group] });
}

/** Returns the questions that are taught, to ask them before and after. */
export function questionsOf({ method, groups, examples, pairs, file, uploaded }) {
  if (method === "grpo") return groups.filter((each) => each.question.trim()).map(promptOf);
  if (file || uploaded) return [];
  return (method === "dpo" ? pairs : examples).filter((each) => each.question.trim()).map((each) => [user(each.question)]);
}

/** Returns the `path` and the `body` of the request that starts the training. */
export function requestOf(taught) {
  const { method, model, values, uploaded } = taught;
  if (uploaded) return { path: "openai/v1/fine_tuning/jobs", body: jobOf(taught) };
  return { path: "v1/train", body: { model, method, ...contentOf(taught), ...values, background: true } };
}

/** The service chooses the values that are left out. */
function jobOf({ method, model, values, uploaded }) {
  return {
    model, training_file: uploaded.trainingFile, validation_file: uploaded.validationFile || undefined,
    suffix: uploaded.suffix.trim() || undefined, method: { type: method, [method]: { hyperparameters: values } },
  };
}

function contentOf({ method, groups, examples, pairs, file }) {
  if (method === "grpo") {
    return { groups: groups.map((group) => ({ messages: promptOf(group), responses: group.answers.map(responseOf) })) };
  }
  if (file) return file.content;
  if (method === "dpo") return { pairs: pairs.map(({ question, preferred, rejected }) => ({ messages: [user(question)], preferred, rejected })) };
  return { examples: examples.map(({ question, answer }) => ({ messages: [user(question), { role: "assistant", content: answer }] })) };
}

function responseOf({ content, reward, stop_reason }) {
  return { content, reward, ...(stop_reason && { stop_reason }) };
}

/** Returns why nothing can be taught yet, for the person; an empty text if it can. */
export function missingOf(taught) {
  if (!taught.model) return "Choose a model of yours first.";
  if (taught.method === "grpo") return missingInGroups(taught.groups);
  if (taught.uploaded) return taught.uploaded.trainingFile ? "" : "Choose a training file first.";
  if (taught.file) return "";
  const list = taught.method === "dpo" ? taught.pairs : taught.examples;
  const fields = taught.method === "dpo" ? ["question", "preferred", "rejected"] : ["question", "answer"];
  return list.every((each) => fields.every((name) => each[name].trim())) ? "" : "Fill in all texts, or remove what is empty.";
}

function missingInGroups(groups) {
  if (groups.some((group) => !group.question.trim())) return "Each question needs a text.";
  if (groups.some((group) => group.answers.length < 2)) return "Each question needs at least two answers.";
  if (groups.some((group) => group.answers.some((each) => each.isOwn && !each.content.trim()))) return "Write the text of your own answers, or remove the empty ones.";
  if (groups.some((group) => group.answers.some((each) => !Number.isFinite(each.reward)))) return "Each answer needs a reward.";
  const teaches = groups.some((group) => new Set(group.answers.map((each) => each.reward)).size > 1);
  return teaches ? "" : "Say which answer is better: all rewards of a question are still equal.";
}
