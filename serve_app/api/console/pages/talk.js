// `#/talk`: a conversation with one model, or with two side by side.
//
// The address may choose them: `?model=model42&revision=1&with=model42&with_revision=2`.
import { html, useEffect, useState } from "../core/view.js";
import { isAnswering, panes, rounds, setPane, startAnew } from "../core/conversation.js";
import { loadModels, models } from "../core/models.js";
import { Button, Empty, ErrorBox, PageHead, Skeleton } from "../components/basics.js";
import { ModelPicker } from "../components/model_picker.js";
import { Composer, send } from "./talk_composer.js";
import { Round } from "./talk_round.js";
import { TalkSettings, numSettings } from "./talk_settings.js";

const EXAMPLES = ["Who are you?", "Name a fruit and say why you like it.", "Explain rain to a child, in two sentences."];

export function Talk({ query }) {
  const [isOpen, setOpen] = useState(false);
  const { list, error } = models.value;
  const address = query.toString();
  useEffect(() => { loadModels(); }, []);
  useEffect(() => { if (query.has("model")) choose(panesOf(query), address); }, [address]);
  useEffect(() => { if (list?.length) panes.value = panes.value.map((pane) => known(pane, list)); }, [list, address]);
  const isPair = panes.value.length === 2;
  const chosen = numSettings();
  return html`
    <${PageHead} title="Talk" actions=${html`
      <${Button} icon="columns" aria-pressed=${isPair} disabled=${!list?.length} onClick=${() => (isPair ? oneOnly() : sideBySide(list))}>${isPair ? "One model" : "Side by side"}<//>
      <${Button} icon="settings" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>Settings${chosen ? ` (${chosen})` : ""}<//>
      ${rounds.value.length > 0 && html`<${Button} icon="plus" onClick=${startAnew}>New<//>`}`} />
    ${error && !list && html`<${ErrorBox} error=${error} retry=${loadModels} />`}
    ${!list && !error && html`<${Skeleton} lines=${2} />`}
    ${list && panes.value[0].model && html`
      <div class=${isPair ? "panes panes-two" : "panes"}>
        ${panes.value.map((pane, index) => html`<${ModelPicker} key=${index} value=${pane} label=${isPair ? `Model ${index + 1}` : "Model"}
          onChange=${(value) => setPane(index, value)} />`)}
      </div>
      ${isOpen && html`<${TalkSettings} model=${list.find((each) => each.id === panes.value[0].model)} />`}
      <div class="rounds" aria-busy=${isAnswering.value}>
        ${rounds.value.length ? rounds.value.map((round, index) => html`
          <${Round} key=${round.id} round=${round} isLast=${index === rounds.value.length - 1} />`) : html`
          <${Empty} icon="talk" title="Ask anything" action=${html`<${Examples} />`}>
            The conversation stays until you load this page again. You may begin with one of these:
          <//>`}
      </div>
      <${Composer} />`}`;
}

function Examples() {
  return html`
    <div class="row examples">
      ${EXAMPLES.map((each) => html`<button key=${each} type="button" class="chip" onClick=${() => send(each)}>${each}</button>`)}
    </div>`;
}

let chosenBy = "";

/** Chooses what an address names. Another address begins another conversation; the same one goes on with it. */
function choose(wanted, address) {
  if (address !== chosenBy) startAnew();
  chosenBy = address;
  panes.value = wanted;
}

function panesOf(query) {
  const number = (name) => (/^\d+$/.test(query.get(name) ?? "") ? Number(query.get(name)) : null);
  const found = [{ model: query.get("model"), revision: number("revision") }];
  if (query.has("with")) found.push({ model: query.get("with"), revision: number("with_revision") });
  return found;
}

/** Returns the pane, or the default model if its model does not exist. */
function known(pane, list) {
  if (list.some((each) => each.id === pane.model)) return pane;
  return { model: (list.find((each) => each.default_model) ?? list[0]).id, revision: null };
}

function oneOnly() {
  panes.value = panes.value.slice(0, 1);
}

/** The second model is the first one as it was before all trainings, or the model that it was copied from. */
function sideBySide(list) {
  const first = list.find((each) => each.id === panes.value[0].model);
  const parent = list.find((each) => each.name === first.parent_model) ?? list.find((each) => each !== first) ?? first;
  const hasLearned = first.revision > 0 && panes.value[0].revision !== 0;
  panes.value = [panes.value[0], hasLearned ? { model: first.id, revision: 0 } : { model: parent.id, revision: null }];
}
