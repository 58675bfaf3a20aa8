// Draws a GrowingText, and tells a screen reader its sentences as they come.
import { Component, html, useLayoutEffect, useRef } from "../core/view.js";
import { follow } from "../core/follow.js";

const SENTENCE_END = /[.!?\u3002\uff01\uff1f\n](?=\s|$)/g;
const MAX_TOLD = 12;

class Block extends Component {
  shouldComponentUpdate(next) {
    return next.text !== this.props.text;
  }

  render({ text }) {
    return html`<span class="block block-whole">${text}</span>`;
  }
}

export function Growing({ text, isStreaming }) {
  const version = text.version.value;
  useLayoutEffect(() => { if (isStreaming) follow(); }, [version]);
  return html`
    <bdi class="text text-block growing">
      ${text.blocks.map((each, index) => html`<${Block} key=${index} text=${each} />`)}
      <span class=${`block ${isStreaming ? "block-open" : ""}`}>${text.tail}</span>
    </bdi>`;
}

/** A region that only screen readers see. It gets whole sentences, so that nothing is read twice. */
export function Told({ text, isStreaming }) {
  const told = useRef({ text: null, end: 0, sentences: [] });
  text.version.value;
  if (told.current.text !== text) told.current = { text, end: 0, sentences: [] };
  const state = told.current;
  const all = isStreaming || state.end ? String(text) : "";
  const end = isStreaming ? lastEnd(all, state.end) : all.length;
  if (end > state.end) {
    state.sentences = [...state.sentences, { at: state.end, text: all.slice(state.end, end) }].slice(-MAX_TOLD);
    state.end = end;
  }
  return html`<div class="hidden" role="log" aria-live="polite">${state.sentences.map((each) => html`<p key=${each.at}>${each.text}</p>`)}</div>`;
}

function lastEnd(text, from) {
  let end = from;
  for (const match of text.slice(from).matchAll(SENTENCE_END)) end = from + match.index + 1;
  return end;
}
