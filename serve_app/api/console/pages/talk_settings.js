// The system message and the values of sampling. An empty field means the model's own default.
import { html } from "../core/view.js";
import { settings, systemMessage } from "../core/conversation.js";
import { short } from "../core/format.js";
import { NumberField, TextField } from "../components/fields.js";

/** The number of settings that this person chose. */
export function numSettings() {
  const values = [systemMessage.value, ...Object.values(settings.value)];
  return values.filter((each) => String(each).trim() !== "").length;
}

export function TalkSettings({ model }) {
  const set = (name) => (value) => (settings.value = { ...settings.value, [name]: value });
  const field = (name, label, more) => html`
    <${NumberField} label=${label} value=${settings.value[name]} onInput=${set(name)} ...${more} />`;
  return html`
    <section class="card form" aria-label="Settings">
      <${TextField} label="System message" optional multiline rows=${2} value=${systemMessage.value} placeholder="You are a helpful gardener."
        onInput=${(value) => (systemMessage.value = value)} />
      <div class="form-grid">
        ${field("temperature", "Temperature", { min: 0, max: 2, placeholder: short(model?.temperature), hint: "0 takes the likeliest word." })}
        ${field("top_p", "Top-p", { min: 0, max: 1, placeholder: short(model?.top_p), hint: "Lower leaves out unlikely words." })}
        ${field("max_tokens", "Max tokens", { min: 1, step: 1, placeholder: "no limit", hint: "The longest answer." })}
        ${field("seed", "Seed", { min: 0, step: 1, placeholder: "random", hint: "The same seed repeats an answer." })}
      </div>
    </section>`;
}
