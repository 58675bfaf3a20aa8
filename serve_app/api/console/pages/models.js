// `#/models`: the list of models. `#/models/<id>` is one of them (model.js).
import { html, useEffect, useState } from "../core/view.js";
import { dateTime, timeAgo } from "../core/format.js";
import { loadModels, models } from "../core/models.js";
import { go, link } from "../core/router.js";
import { Badge, Button, Empty, ErrorBox, PageHead, Skeleton, Text } from "../components/basics.js";
import { CopyModel } from "./copy_model.js";
import { Model } from "./model.js";

export function Models({ parts, query }) {
  return parts.length ? html`<${Model} key=${parts[0]} id=${parts[0]} query=${query} />` : html`<${List} />`;
}

function List() {
  const [parent, setParent] = useState(null);
  useEffect(() => { loadModels(); }, []);
  const { list, error } = models.value;
  const own = list?.filter((each) => !each.read_only) ?? [];
  const base = list?.filter((each) => each.read_only) ?? [];
  const copyBase = () => setParent(base.find((each) => each.default_model) ?? list[0]);
  return html`
    <${PageHead} title="Models" lead="Base models belong to everybody here. Your copies are yours alone."
      actions=${own.length > 0 && html`<${Button} kind="main" icon="plus" onClick=${copyBase}>Make a copy<//>`} />
    ${error && html`<${ErrorBox} error=${error} retry=${loadModels} />`}
    ${!list && !error && html`<div class="cards"><${Skeleton} /><${Skeleton} /></div>`}
    ${list && html`
      <section aria-label="Your models">
        <h2 class="section-title">Yours</h2>
        ${own.length ? html`<${Cards} list=${own} copy=${setParent} />` : html`
          <${Empty} icon="models" title="You have no model of your own yet"
            action=${html`<${Button} kind="main" icon="plus" onClick=${copyBase}>Make your first copy<//>`}>
            Make a private copy of a base model. Then talk to it and teach it which answers you like.
          <//>`}
      </section>
      <section aria-label="Base models"><h2 class="section-title">Base models</h2><${Cards} list=${base} copy=${setParent} /></section>`}
    ${parent && html`<${CopyModel} parent=${parent} list=${list} onClose=${() => setParent(null)} onMade=${(made) => go("models", made.id)} />`}`;
}

function Cards({ list, copy }) {
  return html`<ul class="cards">${list.map((model) => html`<${Card} key=${model.id} model=${model} copy=${copy} />`)}</ul>`;
}

function Card({ model, copy }) {
  return html`
    <li class="card model-card">
      <div class="row row-apart">
        <h3><a class="card-link" href=${link("models", model.id)}><${Text}>${model.name}<//></a></h3>
        <span class="row">
          ${model.default_model && html`<${Badge} kind="accent">default<//>`}
          ${model.read_only ? html`<${Badge}>read only<//>` : html`<${Badge}>revision ${model.revision}<//>`}
        </span>
      </div>
      <p class="description"><${Text}>${model.description || "No description."}<//></p>
      <p class="faint">
        <code><${Text}>${model.id}<//></code>
        ${model.parent_model && html` · copy of <${Text}>${model.parent_model}<//>`}
        ${" · "}<time datetime=${model.last_modified} title=${dateTime(model.last_modified)}>${timeAgo(model.last_modified)}</time>
      </p>
      <div class="row card-actions">
        <a class="button button-plain" href=${link("talk", { model: model.id })}>Talk</a>
        <${Button} onClick=${() => copy(model)} aria-label=${`Make a copy of ${model.name}`}>Copy<//>
      </div>
    </li>`;
}
