// Chooses a model and one of its revisions.
import { html } from "../core/view.js";
import { call } from "../core/api.js";
import { answeringRevisions, models } from "../core/models.js";
import { useResource } from "../core/resource.js";
import { SelectField } from "./fields.js";

/** `value` and what `onChange` gets are `{model, revision}`; the revision null is always the current one. */
export function ModelPicker({ value, onChange, label = "Model" }) {
  const list = models.value.list ?? [];
  const chosen = list.find((each) => each.id === value.model);
  const isPrivate = chosen !== undefined && !chosen.read_only;
  const { data } = useResource(
    (signal) => (isPrivate ? call("GET", `v1/models/${encodeURIComponent(chosen.id)}/revisions`, { signal, quiet: true }) : Promise.resolve([])),
    [value.model, isPrivate, chosen?.revision],
  );
  const numbers = isPrivate ? answeringRevisions(data ?? [], chosen.revision) : [];
  if (value.revision !== null && !numbers.includes(value.revision)) numbers.push(value.revision);
  return html`
    <div class="picker">
      <${SelectField} label=${label} value=${value.model} disabled=${!list.length} onInput=${(model) => onChange({ model, revision: null })}
        options=${list.map((each) => ({ value: each.id, title: each.name }))} />
      ${isPrivate && html`
        <${SelectField} label="Revision" value=${value.revision === null ? "" : String(value.revision)}
          onInput=${(text) => onChange({ ...value, revision: text === "" ? null : Number(text) })}
          options=${[{ value: "", title: `current (${chosen.revision})` }, ...numbers.map((each) => ({ value: String(each), title: String(each) }))]} />`}
    </div>`;
}
