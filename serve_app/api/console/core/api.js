// The client of the API. Every page calls the service through it, and it does what all calls need:
//
//   the key          is added here and nowhere else; 401 leads to the sign-in
//   errors           become ApiError, or Unreachable if there was no answer
//   the sign-out     ends every request, so that nothing of a person reaches the next one
//   "Show request"   gets each request, unless `quiet` is set, as background polls do
import { noteRequest } from "./last_request.js";
import { noteReached, noteUnreachable } from "./connection.js";
import { key, keyIsInvalid, onSignOut } from "./session.js";

/** The address of the service: the console is one level below it. */
export const SERVICE = new URL("../", location.origin + location.pathname).href;

let leaving = new AbortController();

onSignOut(() => {
  leaving.abort();
  leaving = new AbortController();
});

/** Returns a signal that also ends a request when the person signs out. */
const untilSignOut = (signal) => (signal ? AbortSignal.any([signal, leaving.signal]) : leaving.signal);

export class ApiError extends Error {
  constructor(status, detail, retryAfterS = null) {
    super(sentence(detail) ?? `The service answered with status ${status}.`);
    this.status = status;
    this.code = detail.code ?? "unknown";
    this.param = detail.param ?? null;
    this.retryAfterS = retryAfterS;
  }
}

/** Returns the message of the service for a person, who sees the name of the field beside it. */
function sentence({ message, param }) {
  const text = param && message?.startsWith(`${param}: `) ? message.slice(param.length + 2) : message;
  return text?.replace(/^[a-z]/, (letter) => letter.toUpperCase());
}

/** There was no answer, or it broke off. */
export class Unreachable extends Error {
  constructor() {
    super("The service cannot be reached. It may be restarting.");
    this.code = "unreachable";
  }
}

/** Sends a request and returns its answer in JSON. Options: `body`, `query`, `headers`, `signal`, `quiet`. */
export async function call(method, path, options = {}) {
  const signal = untilSignOut(options.signal);
  const response = await send(method, path, { ...options, signal });
  const text = await read(() => response.text(), signal);
  return text ? JSON.parse(text) : null;
}

/** Sends a request and returns the bytes of the answer and the name of the file. */
export async function download(path, options = {}) {
  const signal = untilSignOut(options.signal);
  const response = await send("GET", path, { ...options, signal });
  const blob = await read(() => response.blob(), signal);
  const named = /filename="?([^";]+)"?/.exec(response.headers.get("content-disposition") ?? "");
  return { blob, name: named ? named[1] : path.split("/").at(-1) };
}

/**
 * Sends a request and calls `onLine` with each object of the NDJSON answer, the last one included.
 *
 * Throws ApiError for an `error` line, and Unreachable if the stream ends without `stop` or `error`.
 */
export async function stream(method, path, { onLine, ...options }) {
  const usedKey = key.value;
  const signal = untilSignOut(options.signal);
  const response = await send(method, path, { ...options, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await read(() => reader.read(), signal);
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((each) => each.trim())) {
      const event = JSON.parse(line);
      if (event.type === "error") throw streamError(event, usedKey);
      onLine(event);
      if (event.type === "stop") return;
    }
  }
  noteUnreachable();
  throw new Unreachable();
}

function streamError(event, usedKey) {
  const detail = event.error ?? { message: event.message };
  if (detail.code === "invalid_api_key") keyIsInvalid(usedKey);
  return new ApiError(detail.code === "unavailable" ? 503 : 500, detail);
}

async function send(method, path, { body, query, headers = {}, signal, quiet = false, withKey = key.value }) {
  const url = new URL(path.replace(/^\//, ""), SERVICE);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const isJson = body !== undefined && !(body instanceof FormData);
  if (!quiet) noteRequest({ method, url: url.href, body, headers });
  const given = { ...headers, Authorization: `Bearer ${withKey}` };
  if (isJson) given["Content-Type"] = "application/json";
  const response = await read(
    () => fetch(url, {
      method, headers: given, body: isJson ? JSON.stringify(body) : body, signal, cache: "no-store",
      credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    }),
    signal,
  );
  if (response.ok) return response;
  throw await refusal(response, withKey);
}

async function refusal(response, usedKey) {
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) keyIsInvalid(usedKey);
  const retryAfterS = Number(response.headers.get("retry-after")) || null;
  return new ApiError(response.status, answer?.error ?? {}, retryAfterS);
}

/** Reads from the network. A read that was stopped stays an AbortError; any other failure is Unreachable. */
async function read(reading, signal) {
  try {
    const found = await reading();
    noteReached();
    return found;
  } catch (error) {
    if (signal?.aborted) throw error;
    noteUnreachable();
    throw new Unreachable();
  }
}
