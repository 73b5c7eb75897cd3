// Calls of the server, and its streams of events.

import { chosenLanguage, t } from "./language.js";

/** An answer that says what is wrong, where, and what to do: one line, as on a terminal. */
export class Problem extends Error {
  constructor(status, body) {
    super((chosenLanguage() === "zh" && body.detail_zh) || body.detail || body.title || t("The server answered with {status}.", { status }));
    this.status = status;
    this.key = body.key || null;
    this.remedy = chosenLanguage() === "zh" && body.detail_zh ? null : body.remedy || null; // the Chinese line has its own
  }

  /** The line and its remedy. */
  get line() {
    return this.remedy && !this.message.includes(this.remedy) ? `${this.message} ${this.remedy}` : this.message;
  }
}

/**
 * Call the server and return its JSON; null where there is none.
 *
 * @param {string} method
 * @param {string} path
 * @param {{body?: object, signal?: AbortSignal, headers?: object}} [how]
 * @throws {Problem}
 */
export async function call(method, path, { body, signal, headers = {} } = {}) {
  const answer = await answered(method, path, { body, signal, headers });
  return answer.status === 204 ? null : answer.json();
}

export const get = (path, how) => call("GET", path, how);
export const post = (path, body = {}, how = {}) => call("POST", path, { ...how, body });
export const put = (path, body, how = {}) => call("PUT", path, { ...how, body });

/** Return a path with a query; what is empty is left out. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Return the path of a run's part. */
export const ofRun = (id, part = "") => `/api/training/jobs/${encodeURIComponent(id)}${part && `/${part}`}`;

async function answered(method, path, { body, signal, headers }) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: { Accept: "application/json", ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
      body: body ? JSON.stringify(body) : undefined,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: t("The server does not answer; the page goes on when it is back.") });
  }
  if (answer.ok) return answer;
  if (answer.status === 401) connection.set("login");
  throw new Problem(answer.status, await answer.json().catch(() => ({})));
}

// -- the state of the connection, which the page's head shows -------------------------------------------------------

/** State of the connection: `live`, `connecting`, `login` or `idle`. */
export const connection = {
  state: "idle",
  listeners: new Set(),
  set(state) {
    this.state = state;
    for (const listener of this.listeners) listener(state);
  },
};

// -- streams --------------------------------------------------------------------------------------------------------

const SILENCE = 45000; // the server sends a comment every few seconds; a longer silence is a connection that is gone
const WAITS = [300, 1000, 2000, 5000];

/**
 * Follow a stream of server-sent events, for as long as the page is seen, over every break of the connection.
 *
 * A hidden page holds no connection: a browser has only six for a server. What was missed comes when the page is seen
 * again, since the server replays from the last event's id. A laptop that slept is the same case.
 *
 * @param {string} path
 * @param {{position?: string|null, onEvent: (event: {id: string|null, name: string, data: any}) => void}} how
 * @returns {{close: () => void}}
 */
export function follow(path, { position = null, onEvent }) {
  let isClosed = false;
  let failures = 0;
  let abort = null;
  let wake = null;

  const run = async () => {
    while (!isClosed) {
      if (document.hidden) {
        await paused(null);
        continue;
      }
      abort = new AbortController();
      try {
        await read(abort.signal);
      } catch (error) {
        if (error instanceof Problem && (error.status === 404 || error.status === 401)) {
          connection.set(error.status === 401 ? "login" : "idle");
          return;
        }
      }
      if (isClosed || document.hidden) continue;
      connection.set("connecting");
      await paused(WAITS[Math.min(failures, WAITS.length - 1)]);
      failures += 1;
    }
  };

  const read = async (signal) => {
    const headers = { Accept: "text/event-stream", ...(position === null ? {} : { "Last-Event-ID": position }) };
    const answer = await answered("GET", path, { signal, headers });
    failures = 0;
    connection.set("live");
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE);
    };
    try {
      alive();
      for await (const event of eventsOf(answer.body, alive)) {
        if (isClosed) return;
        if (event.id !== null) position = event.id;
        onEvent(event);
      }
    } finally {
      clearTimeout(watchdog);
    }
  };

  const paused = (milliseconds) =>
    new Promise((resolve) => {
      wake = resolve;
      if (milliseconds !== null) setTimeout(resolve, milliseconds);
    });

  const seen = () => {
    if (document.hidden) abort?.abort();
    failures = 0;
    wake?.();
  };

  document.addEventListener("visibilitychange", seen);
  window.addEventListener("online", seen);
  run();
  return {
    close() {
      isClosed = true;
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("online", seen);
      connection.set("idle");
      abort?.abort();
      wake?.();
    },
  };
}

/**
 * Send a request and yield the events of its answer.
 *
 * @throws {Problem}
 */
export async function* streamed(path, body, signal) {
  const answer = await answered("POST", path, { body, signal, headers: { Accept: "text/event-stream" } });
  yield* eventsOf(answer.body, () => {});
}

async function* eventsOf(body, onBytes) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: null, name: "message", data: [] };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onBytes();
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data.length) yield { ...event, data: parsed(event.data.join("\n")) };
          event = { id: null, name: "message", data: [] };
          continue;
        }
        const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "data") event.data.push(text);
        else if (field === "event") event.name = text;
        else if (field === "id") event.id = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be gone already
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
