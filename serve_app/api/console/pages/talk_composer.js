// Where the next question is written. Enter sends it; on a touch screen Enter begins a line.
import { html, useEffect, useRef } from "../core/view.js";
import { ask, isAnswering, question, stop } from "../core/conversation.js";
import { followFromNow } from "../core/follow.js";
import { Button } from "../components/basics.js";

/** Asks, unless there is nothing to ask or an answer is still coming. */
export function send(text) {
  if (!text.trim() || isAnswering.value) return;
  question.value = "";
  ask(text);
  followFromNow();
}

export function Composer() {
  const area = useRef(null);
  useEffect(() => { if (!matchMedia("(pointer: coarse)").matches) area.current.focus({ preventScroll: true }); }, []);
  function onKeyDown(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    send(question.value);
  }
  /** The buttons take each other's place, so the focus would be lost with the one that was pressed. */
  const keepFocus = () => area.current.focus({ preventScroll: true });
  return html`
    <div class="composer">
      <form class="composer-box" onSubmit=${(event) => { event.preventDefault(); send(question.value); keepFocus(); }}>
        <textarea ref=${area} rows="1" dir="auto" aria-label="Your message" placeholder="Write a message" value=${question.value}
          onInput=${(event) => (question.value = event.currentTarget.value)} onKeyDown=${onKeyDown}></textarea>
        ${isAnswering.value
          ? html`<${Button} key="stop" kind="plain" icon="stop" label="Stop" onClick=${() => { stop(); keepFocus(); }} />`
          : html`<${Button} key="send" kind="main" icon="send" label="Send" type="submit" disabled=${!question.value.trim()} />`}
      </form>
    </div>`;
}
