// Follows a training: its record, its events, and the points of its curves.
import { effect, useEffect, useState } from "./view.js";
import { ApiError, Unreachable, call, stream } from "./api.js";
import { isReachable } from "./connection.js";

const ENDED = ["succeeded", "failed", "cancelled"];
const NO_CURVE = new Set(["type", "step", "steps", "seconds"]);

/** Tells whether a job has ended, so that nothing of it changes any more. */
export const hasEnded = (job) => ENDED.includes(job.status);

/** Returns the curves of the `progress` events: `{loss: [[step, value], ...], ...}`, by the names of the numbers. */
export function curvesOf(events) {
  const curves = {};
  for (const event of events) {
    if (event.type !== "progress") continue;
    for (const [name, value] of Object.entries(event)) {
      if (!NO_CURVE.has(name) && Number.isFinite(value)) (curves[name] ??= new Map()).set(event.step, value);
    }
  }
  return Object.fromEntries(Object.entries(curves).map(([name, points]) => [name, [...points].sort((a, b) => a[0] - b[0])]));
}

/**
 * Follows the job `id` until it has ended. Returns `{job, events, error, isBroken, reload}`.
 *
 * `isBroken` is true while the stream has broken off and the service cannot be reached. It then goes on by
 * itself, from the first event, because the answer always begins there.
 */
export function useTraining(id) {
  const [state, setState] = useState({ job: null, events: [], error: null, isBroken: false });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stopping = new AbortController();
    follow(id, stopping.signal, (change) => stopping.signal.aborted || setState((old) => ({ ...old, ...change })));
    return () => stopping.abort();
  }, [id, round]);
  return { ...state, reload: () => setRound((old) => old + 1) };
}

async function follow(id, signal, show) {
  const path = `v1/jobs/${encodeURIComponent(id)}`;
  while (!signal.aborted) {
    try {
      show({ job: await call("GET", path, { signal, quiet: true }), error: null });
      await followEvents(path, signal, show);
      show({ job: await call("GET", path, { signal, quiet: true }), isBroken: false });
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Unreachable)) return show({ error });
      show({ isBroken: true });
      await untilReachable(signal);
    }
  }
}

/** Shows the events as they come, once a frame. An `error` line is the last event of a training that failed. */
async function followEvents(path, signal, show) {
  const events = [];
  let frame = 0;
  const draw = () => { frame = 0; show({ events: [...events], isBroken: false }); };
  const onLine = (event) => {
    events.push(event);
    frame ||= requestAnimationFrame(draw);
  };
  try {
    await stream("GET", `${path}/events`, { query: { follow: true }, signal, onLine });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 401) throw error;
    const isEnd = error.code.startsWith("training_") || hasEnded(await call("GET", path, { signal, quiet: true }));
    if (!isEnd) throw error.code === "unavailable" ? new Unreachable() : error;
    events.push({ type: "error", message: error.message });
  } finally {
    cancelAnimationFrame(frame);
  }
  draw();
}

/** Waits until the service answers again, at least a second. */
function untilReachable(signal) {
  return new Promise((resolve) => {
    const started = setTimeout(() => {
      const stop = effect(() => { if (isReachable.value) queueMicrotask(() => { stop(); resolve(); }); });
      signal.addEventListener("abort", () => { stop(); resolve(); });
    }, 1000);
    signal.addEventListener("abort", () => { clearTimeout(started); resolve(); });
  });
}
