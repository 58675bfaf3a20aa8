// A training with a file that was uploaded. The service has it until it is deleted, and checks its lines.
import { html, useState } from "../core/view.js";
import { call } from "../core/api.js";
import { bytes, timeAgo } from "../core/format.js";
import { useResource } from "../core/resource.js";
import { setTeaching, teaching } from "../core/teaching.js";
import { ErrorBox, Skeleton, Text } from "../components/basics.js";
import { Field, SelectField, TextField } from "../components/fields.js";
import { Files, madeAt } from "./teach_files.js";

const PURPOSE = "fine-tune";

export function Uploaded() {
  const { uploaded } = teaching.value;
  const { data, error, reload } = useResource((signal) => call("GET", "openai/v1/files", { signal }), []);
  if (!data) return error ? html`<${ErrorBox} error=${error} retry=${reload} />` : html`<${Skeleton} lines=${3} />`;
  // An upload may end after the person chose to type the examples.
  const set = (change) => teaching.value.uploaded && setTeaching({ uploaded: { ...teaching.value.uploaded, ...change } });
  const forget = (id) => set(Object.fromEntries(["trainingFile", "validationFile"].filter((each) => teaching.value.uploaded?.[each] === id).map((each) => [each, ""])));
  const files = data.data.filter((each) => each.status === "processed" && each.purpose === PURPOSE).map((each) => ({ value: each.id, title: titleOf(each) }));
  return html`
    <${Upload} onUploaded=${async (file) => { await reload(); set({ trainingFile: file.id }); }} />
    <div class="form-wide">
      <${SelectField} label="Training file" value=${uploaded.trainingFile} onInput=${(id) => set({ trainingFile: id })}
        hint=${files.length ? "The examples that are learned." : "You have no usable file yet. Upload one first."}
        options=${[{ value: "", title: "Choose a file" }, ...files]} />
      <${SelectField} label="Validation file" value=${uploaded.validationFile} onInput=${(id) => set({ validationFile: id })}
        hint="It is measured after each epoch, and not learned." options=${[{ value: "", title: "None" }, ...files]} />
      <${TextField} label="Suffix of a copy" optional maxlength="64" autocomplete="off" value=${uploaded.suffix} onInput=${(suffix) => set({ suffix })}
        hint="With a suffix the training makes a copy, whose name has it, and this model stays as it is." />
    </div>
    ${data.data.length > 0 && html`<${Files} files=${data.data} onDeleted=${(id) => { forget(id); return reload(); }} />`}`;
}

const titleOf = (file) => `${file.filename}, ${bytes(file.bytes)}, ${timeAgo(madeAt(file))}`;

/** `onUploaded` gets a file whose lines can be used. */
function Upload({ onUploaded }) {
  const [name, setName] = useState("");
  const [failure, setFailure] = useState("");
  async function send(event) {
    const input = event.currentTarget;
    const [file] = input.files;
    if (!file) return;
    setName(file.name);
    setFailure("");
    try {
      const body = new FormData();
      body.append("purpose", PURPOSE);
      body.append("file", file);
      const made = await call("POST", "openai/v1/files", { body });
      if (made.status === "processed") await onUploaded(made);
      else setFailure(`Lines of ${made.filename} cannot be used. ${made.status_details}`);
    } catch (error) {
      setFailure(error.message);
    } finally {
      setName("");
      input.value = "";
    }
  }
  return html`
    <${Field} label="Upload a JSONL file" error=${failure && html`<${Text}>${failure}<//>`} hint="A line is an example or a pair, as under “Type or open”. The file may be larger than one that is sent with the training.">
      ${(given) => html`<input type="file" accept=".jsonl,.ndjson,application/x-ndjson" ...${given} disabled=${name !== ""} onChange=${send} />`}
    <//>
    <p class=${name ? "waiting" : "hidden"} role="status">${name && html`<span class="spinner" aria-hidden="true"></span><span>The service reads <${Text}>${name}<//>.</span>`}</p>`;
}
