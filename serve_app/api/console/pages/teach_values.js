// The hyper-parameters of a training, each with its meaning. An empty one is the default of the model, or is chosen by
// the service for an uploaded file.
import { html } from "../core/view.js";
import { setTeaching, teaching } from "../core/teaching.js";
import { NumberField, SelectField, numberOf } from "../components/fields.js";

const EVERY = {
  learning_rate: ["Learning rate", "The size of a step. Higher learns faster, and forgets more. Try 0.0002 to see an effect soon."],
  learning_steps: ["Steps", "The number of times that the model is changed a little."],
};
const OF_METHOD = {
  grpo: {
    beta: ["Beta", "The weight of the KL divergence: how much the model is held at its base model."],
    epsilon: ["Epsilon", "The bound of the change of a token's probability in a step."],
  },
  supervised: {},
  dpo: { beta: ["Beta", "How much the model is held at the revision with which the training starts."] },
};
const OF_LISTS = {
  epochs: ["Epochs", "Passes over all of them. Give epochs or steps, not both."],
  batch_size: ["Batch size", "How many are learned in one step."],
  warmup_ratio: ["Warm-up", "The part of the steps, from 0 to 1, in which the learning rate grows."],
};
const OF_FILES = {
  n_epochs: ["Epochs", "Passes over the training file."],
  batch_size: ["Batch size", "How many lines are learned in one step."],
  learning_rate_multiplier: ["Learning rate multiplier", "The factor of the usual rate of the method. Higher learns faster, and forgets more."],
};
const SCHEDULES = [
  { value: "", title: "Constant" }, { value: "linear", title: "Falls evenly (linear)" }, { value: "cosine", title: "Falls slowly at first (cosine)" },
];

function fieldsOf(method, uploaded) {
  if (uploaded) return { ...OF_FILES, ...OF_METHOD[method] };
  return { ...EVERY, ...OF_METHOD[method], ...(method === "grpo" ? {} : OF_LISTS) };
}

export function Hyperparameters({ model }) {
  const { method, values, uploaded } = teaching.value;
  const fields = fieldsOf(method, uploaded);
  const defaultOf = (name) => (uploaded ? "automatic" : String(model[name] ?? ""));
  const set = (name, value) => {
    const { [name]: _, ...others } = teaching.value.values;
    setTeaching({ values: value === undefined ? others : { ...others, [name]: value } });
  };
  return html`
    <details class="card" open=${Object.keys(values).length > 0}><summary>How it learns</summary>
      <div class="form-grid form-grid-wide">
        ${Object.entries(fields).map(([name, [label, hint]]) => html`
          <${NumberField} key=${`${method} ${name}`} label=${label} hint=${hint} placeholder=${defaultOf(name)}
            value=${values[name] ?? ""} onInput=${(text) => set(name, numberOf(text))} />`)}
        ${method !== "grpo" && !uploaded && html`
          <${SelectField} label="Course of the learning rate" hint="Its course after the warm-up." value=${values.schedule ?? ""} options=${SCHEDULES}
            onInput=${(value) => set("schedule", value || undefined)} />`}
      </div>
    </details>`;
}
