// One answer of a model: it is streamed, and ends as done, stopped or failed.
import { signal } from "./view.js";
import { stream } from "./api.js";
import { GrowingText } from "./growing_text.js";

const COARSE_MS = 100;

/** `state` is `streaming`, `done`, `stopped` or `failed`. `info` says what the service does before the first piece. */
export class Answer {
  constructor(ref) {
    this.ref = ref;
    this.text = signal(new GrowingText());
    this.state = signal("streaming");
    this.info = signal("");
    this.error = signal(null);
    this.result = signal(null);
    this.elapsedS = signal(0);
    this.stopping = new AbortController();
  }

  /** Asks for the answer. It does not throw: `error` has what went wrong. */
  async ask(messages, settings) {
    const startMs = performance.now();
    const clock = setInterval(() => (this.elapsedS.value = (performance.now() - startMs) / 1000), COARSE_MS);
    try {
      await stream("POST", "v1/generate_response", {
        body: { model: this.ref, messages, stream: true, ...settings },
        signal: this.stopping.signal,
        onLine: (event) => this.take(event),
      });
      this.state.value = "done";
    } catch (error) {
      this.state.value = this.stopping.signal.aborted ? "stopped" : "failed";
      this.error.value = this.stopping.signal.aborted ? null : error;
    } finally {
      clearInterval(clock);
      this.elapsedS.value = (performance.now() - startMs) / 1000;
      this.info.value = "";
      this.text.value.flush();
    }
  }

  take(event) {
    if (event.type === "info") this.info.value = event.message;
    if (event.type === "delta") {
      this.info.value = "";
      this.text.value.append(event.delta);
    }
    if (event.type === "stop") this.result.value = event;
  }

  stop() {
    this.stopping.abort();
  }

  /** Replaces the text, for the rest of the conversation. */
  edit(text) {
    this.text.value = new GrowingText(text);
  }
}
