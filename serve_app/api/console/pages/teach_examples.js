// Examples or pairs, typed here or read from a JSONL file.
import { html, useState } from "../core/view.js";
import { count } from "../core/format.js";
import { readJsonl } from "../core/jsonl.js";
import { addEntry, changeEntry, newExample, newPair, newUploaded, setTeaching, teaching } from "../core/teaching.js";
import { Button, Text } from "../components/basics.js";
import { Field, TextField } from "../components/fields.js";
import { Uploaded } from "./teach_uploaded.js";

const KINDS = {
  supervised: { name: "examples", one: "Example", make: newExample, fields: { question: "Question", answer: "Answer to learn" } },
  dpo: { name: "pairs", one: "Pair", make: newPair, fields: { question: "Question", preferred: "Better answer", rejected: "Worse answer" } },
};

export function Examples() {
  const kind = KINDS[teaching.value.method];
  const { uploaded } = teaching.value;
  return html`
    <section class="card form" aria-label=${kind.name}>
      <${Source} isUploaded=${uploaded !== null} />
      ${uploaded ? html`<${Uploaded} />` : html`<${Given} kind=${kind} />`}
    </section>`;
}

function Source({ isUploaded }) {
  const choose = (uploaded) => () => setTeaching({ uploaded, values: {} });
  return html`
    <div><div class="segments" role="group" aria-label="Source">
      <button type="button" aria-pressed=${!isUploaded} onClick=${isUploaded ? choose(null) : undefined}>Type or open</button>
      <button type="button" aria-pressed=${isUploaded} onClick=${isUploaded ? undefined : choose(newUploaded())}>Uploaded file</button>
    </div></div>`;
}

function Given({ kind }) {
  const { file } = teaching.value;
  return html`
    <${FromFile} kind=${kind} />
    ${file ? html`
      <p class="notice"><span><strong><${Text}>${file.name}<//></strong>: ${count(file.content[kind.name].length)} ${kind.name}</span>
        <${Button} onClick=${() => setTeaching({ file: null })}>Type them instead<//></p>` : html`<${Typed} kind=${kind} />`}`;
}

function Typed({ kind }) {
  const list = teaching.value[kind.name];
  return html`
    ${list.map((entry, index) => html`
      <fieldset class="fieldset form" key=${entry.id}><legend>${kind.one} ${index + 1}</legend>
        <div class="form-wide">
          ${Object.entries(kind.fields).map(([name, label]) => html`
            <${TextField} key=${name} label=${label} multiline rows=${2} value=${entry[name]} onInput=${(text) => changeEntry(kind.name, entry.id, { [name]: text })} />`)}
        </div>
        ${list.length > 1 && html`<div><${Button} kind="quiet button-small" icon="trash" onClick=${() => changeEntry(kind.name, entry.id, null)}>Remove ${kind.one.toLowerCase()} ${index + 1}<//></div>`}
      </fieldset>`)}
    <div><${Button} icon="plus" onClick=${() => addEntry(kind.name, kind.make())}>Add another one<//></div>`;
}

function FromFile({ kind }) {
  const [error, setError] = useState("");
  async function read(event) {
    const [file] = event.currentTarget.files;
    if (!file) return;
    setError("");
    try {
      const content = await readJsonl(file);
      if (!content[kind.name]) throw new Error(`This file has ${Object.keys(content)[0]}. Choose the other method for it.`);
      setTeaching({ file: { name: file.name, content } });
    } catch (failure) {
      setError(failure.message);
    }
  }
  return html`
    <${Field} label="From a JSONL file" error=${error} hint=${kind.name === "examples"
      ? html`One conversation in a line: <code>${'{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'}</code>. The file is read here and sent with the training.`
      : html`One preference in a line: <code>${'{"input": {"messages": [{"role": "user", "content": "…"}]}, "preferred_output": [{"role": "assistant", "content": "…"}], "non_preferred_output": [{"role": "assistant", "content": "…"}]}'}</code>.`}>
      ${(given) => html`<input type="file" accept=".jsonl,.ndjson,application/x-ndjson" ...${given} onChange=${read} />`}
    <//>`;
}
