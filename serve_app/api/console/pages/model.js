// `#/models/<id>`: one model, its values, its revisions, and what can be done with it.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { dateTime, short, timeAgo } from "../core/format.js";
import { loadModels, models } from "../core/models.js";
import { useResource } from "../core/resource.js";
import { go, link } from "../core/router.js";
import { Badge, Button, ErrorBox, PageHead, Skeleton, Text } from "../components/basics.js";
import { ChangeModel } from "./change_model.js";
import { CopyModel } from "./copy_model.js";
import { DeleteModel } from "./delete_model.js";
import { Revisions } from "./revisions.js";

const BACK = { href: link("models"), title: "Models" };
const STATUS = {
  ready: ["good", "ready"],
  training: ["accent", "in training"],
  unavailable: ["bad", "its base model was removed"],
};

export function Model({ id }) {
  const [dialog, setDialog] = useState(null);
  const { data: model, error, reload } = useResource((signal) => call("GET", `v1/models/${encodeURIComponent(id)}`, { signal }), [id]);
  if (!model) {
    return html`<${PageHead} title=${id} back=${BACK} />${error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Skeleton} lines=${5} />`}`;
  }
  const close = () => setDialog(null);
  const changed = () => { close(); reload(); loadModels({ quiet: true }); };
  return html`
    <${PageHead} title=${html`<${Text}>${model.name}<//>`} lead=${html`<${Text} block>${model.description || "No description."}<//>`} back=${BACK}
      actions=${html`
        <a class="button button-main" href=${link("talk", { model: model.id })}>Talk</a>
        ${!model.read_only && html`<a class="button button-plain" href=${link("teach", model.id)}>Teach</a>`}
        <${Button} icon="copy" onClick=${async () => { if (!models.value.list) await loadModels({ quiet: true }); setDialog("copy"); }}>Copy<//>
        ${!model.read_only && html`
          <${Button} icon="edit" onClick=${() => setDialog("change")}>Change<//>
          <${Button} icon="trash" kind="bad" label="Delete" onClick=${() => setDialog("delete")} />`}`} />
    <${Facts} model=${model} />
    ${!model.read_only && html`<${Revisions} model=${model} onActivated=${changed} />`}
    ${dialog === "copy" && html`<${CopyModel} parent=${model} list=${models.value.list ?? [model]} onClose=${close} onMade=${(made) => { close(); go("models", made.id); }} />`}
    ${dialog === "change" && html`<${ChangeModel} model=${model} onClose=${close} onChanged=${changed} />`}
    ${dialog === "delete" && html`<${DeleteModel} model=${model} onClose=${close} onDeleted=${() => { loadModels({ quiet: true }); go("models"); }} />`}`;
}

function Facts({ model }) {
  const [kind, status] = STATUS[model.status] ?? ["plain", model.status];
  const facts = [
    ["Status", html`<${Badge} kind=${kind}>${status}<//>`],
    ["Id", html`<code>${model.id}</code>`],
    ["Access", model.read_only ? "read only, for everybody" : "yours alone"],
    ["Default model", model.default_model && "yes"],
    ["Revision", !model.read_only && model.revision],
    ["Copy of", model.parent_model && html`<${Text}>${model.parent_model}<//>`],
    ["Base model", !model.read_only && html`<code>${model.base_model}</code>`],
    ["Last modified", html`<time datetime=${model.last_modified} title=${dateTime(model.last_modified)}>${timeAgo(model.last_modified)}</time>`],
    ["Rank, alpha, dropout", model.rank && `${model.rank}, ${short(model.alpha)}, ${short(model.dropout)}`],
  ];
  const defaults = [
    ["Temperature", model.temperature], ["Top-p", model.top_p], ["Learning rate", model.learning_rate],
    ["Learning steps", model.learning_steps], ["Beta", model.beta], ["Epsilon", model.epsilon],
  ];
  return html`
    <section class="card form" aria-label="About this model">
      <${FactList} facts=${facts} />
      <details><summary>Defaults of generation and training</summary><${FactList} facts=${defaults.map(([name, value]) => [name, short(value)])} /></details>
    </section>`;
}

function FactList({ facts }) {
  return html`
    <dl class="facts">
      ${facts.filter(([, value]) => value !== undefined && value !== false && value !== null).map(([name, value]) => html`
        <div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>`;
}
