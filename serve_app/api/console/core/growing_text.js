// A text that grows piece by piece, drawn at most once a frame and without drawing again what is complete.
import { signal } from "./view.js";

const BLOCK_CHARACTERS = 2000;
const LONGEST_BLOCK = 8000;

/**
 * `blocks` never change and `tail` grows, so a page draws only the tail again, however long the text is.
 *
 * `version` is a signal that changes when there is something to draw.
 */
export class GrowingText {
  constructor(text = "") {
    this.blocks = [];
    this.tail = "";
    this.version = signal(0);
    this.frame = 0;
    if (text) {
      this.append(text);
      this.flush();
    }
  }

  append(piece) {
    this.tail += piece;
    while (this.tail.length > BLOCK_CHARACTERS) {
      const end = blockEnd(this.tail);
      if (end === 0) break;
      this.blocks.push(this.tail.slice(0, end));
      this.tail = this.tail.slice(end);
    }
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  /** Lets the page draw what came last. */
  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.version.value += 1;
  }

  get isEmpty() {
    return !this.tail && !this.blocks.length;
  }

  toString() {
    return this.blocks.join("") + this.tail;
  }
}

/** Returns where the first block ends: after a line, or in a very long line after a space; 0: not yet. */
function blockEnd(text) {
  const line = text.indexOf("\n", BLOCK_CHARACTERS);
  if (line >= 0 && line < LONGEST_BLOCK) return line + 1;
  if (text.length < LONGEST_BLOCK) return 0;
  const space = text.lastIndexOf(" ", LONGEST_BLOCK - 1);
  if (space > BLOCK_CHARACTERS) return space + 1;
  const last = text.charCodeAt(LONGEST_BLOCK - 1);
  return last >= 0xd800 && last < 0xdc00 ? LONGEST_BLOCK - 1 : LONGEST_BLOCK;
}
