// A run's curves: the server's history, and the events that came after it.

/** The x axes, and what a point of each is. */
export const AXES = ["step", "seconds", "tokens", "epoch"];

/** Points after which the history is asked for again, which thins it without losing an extreme. */
const MOST_POINTS = 6000;

/** Events after which what was drawn no longer holds: the record was begun again or wound back. */
const REWINDS = new Set(["run_started", "run_resumed", "reset"]);

/** Return (generation, offset) of a stream's position, `<generation>-<byte offset>`. */
export function placeOf(position) {
  const at = String(position ?? "").lastIndexOf("-");
  return at < 0 ? null : [position.slice(0, at), Number(position.slice(at + 1))];
}

/** The curves of one run. Taking an event a second time changes nothing. */
export class Curve {
  /** @param {object} history as `GET …/metrics/history` answers. */
  constructor(history) {
    this.position = history.position ?? null;
    for (const axis of AXES) this[axis] = [...(history[axis] ?? [])];
    this.series = {};
    for (const [key, { value, low, high }] of Object.entries(history.series ?? {})) {
      this.series[key] = { value: [...value], low: [...(low ?? value)], high: [...(high ?? value)] };
    }
    this.evaluations = { step: [] };
    for (const [key, values] of Object.entries(history.evaluations ?? {})) this.evaluations[key] = [...values];
    this.nonfinite = Object.fromEntries(Object.entries(history.nonfinite ?? {}).map(([key, steps]) => [key, [...steps]]));
    this.resumedAt = [...(history.resumed_at ?? [])];
    this.isThinned = Boolean(history.thinned);
    this.stepsPerEpoch = history.steps_per_epoch ?? null;
    this.lastTime = history.last_time ?? null;
    this.unit = history.unit ?? null;
    this.derived = history.derived ?? [];
  }

  /** Figures of the updates, without those that only say where a point lies. */
  get keys() {
    return Object.keys(this.series);
  }

  get length() {
    return this.step.length;
  }

  /**
   * Take one event of the stream.
   *
   * @returns {"nothing"|"changed"|"reload"} `reload`: the history has to be asked for again.
   */
  take({ id, name, data }) {
    const [place, last] = [placeOf(id), placeOf(this.position)];
    if (name === "reset") return "reload";
    if (place && last) {
      if (place[0] !== last[0]) return "reload";
      if (place[1] <= last[1]) return "nothing";
    }
    if (id) this.position = id;
    if (REWINDS.has(name)) return "reload";
    if (name === "step") return this.#update(data);
    if (name === "eval") return this.#evaluation(data);
    return "nothing";
  }

  #update(event) {
    if (this.length && event.step <= this.step[this.length - 1]) return "nothing";
    if (this.length >= MOST_POINTS) return "reload";
    this.unit ??= event.samples !== undefined || event.samples_per_second !== undefined ? "samples" : "tokens";
    const place = this.#place(event, event.time ?? null, event[this.unit] ?? 0);
    this.lastTime = event.time ?? null;
    for (const axis of AXES) this[axis].push(place[axis]);
    const { figures, bad } = this.#figures(event);
    for (const key of [...Object.keys(figures), ...bad]) this.series[key] ??= this.#column();
    for (const [key, columns] of Object.entries(this.series)) {
      for (const column of Object.values(columns)) column.push(figures[key] ?? null);
    }
    for (const key of bad) (this.nonfinite[key] ??= []).push(event.step);
    return "changed";
  }

  #column() {
    const none = () => new Array(this.length - 1).fill(null);
    return { value: none(), low: none(), high: none() };
  }

  #evaluation(event) {
    const { step } = this.evaluations;
    if (step.length && event.step <= step[step.length - 1]) return "nothing";
    const row = { ...this.#place(event, null, 0), ...this.#figures(event).figures };
    for (const key of Object.keys(row)) this.evaluations[key] ??= new Array(step.length).fill(null);
    for (const [key, values] of Object.entries(this.evaluations)) values.push(row[key] ?? null);
    this.lastTime = event.time ?? null;
    return "changed";
  }

  /** Return where an event lies on each axis, counted as the server counts (`tools/server/reading/history.py`). */
  #place(event, time, added) {
    const before = this.length - 1;
    const last = (axis) => (before < 0 ? 0 : this[axis][before] ?? 0);
    const elapsed = this.lastTime !== null && time !== null ? Math.max(0, time - this.lastTime) : 0;
    return {
      step: event.step,
      seconds: last("seconds") + elapsed,
      tokens: last("tokens") + added,
      epoch: this.stepsPerEpoch ? event.step / this.stepsPerEpoch : event.epoch ?? null,
    };
  }

  /** Return an event's finite figures, and the names of those that were not finite. */
  #figures(event) {
    const figures = {};
    for (const [key, value] of Object.entries(event)) {
      if (!NO_FIGURE.has(key) && typeof value === "number" && Number.isFinite(value)) figures[key] = value;
    }
    const bad = new Set((event.nonfinite ?? []).filter((key) => !NO_FIGURE.has(key) && !(key in figures)));
    if ("loss" in event && !("loss" in figures)) bad.add("loss");
    for (const key of this.derived) {
      const value = "loss" in figures ? Math.exp(figures.loss) : Infinity;
      if (Number.isFinite(value)) figures[key] = value;
    }
    return { figures, bad: [...bad] };
  }

  /** Return where a step lies on an axis; between two points, in proportion. */
  at(step, axis) {
    if (axis === "step") return step;
    const [xs, steps] = [this[axis], this.step];
    if (!steps.length) return null;
    let [low, high] = [0, steps.length - 1];
    if (step <= steps[0]) return xs[0];
    if (step >= steps[high]) return xs[high];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle;
      else high = middle;
    }
    return xs[low] + ((xs[high] - xs[low]) * (step - steps[low])) / (steps[high] - steps[low]);
  }
}

/** Keys of an event that are no figure of a curve. */
const NO_FIGURE = new Set(["time", "step", "epoch", "batch", "tokens", "samples", "loss_tokens", "loss_weight"]);

/**
 * Return the exponential mean of a curve, as if its first value had stood before it for ever.
 *
 * @param {(number|null)[]} values
 * @param {number} weight share of the mean before, 0 to 1.
 */
export function smoothed(values, weight) {
  let mean = null;
  return values.map((value) => {
    if (value === null) return null;
    mean = mean === null ? value : weight * mean + (1 - weight) * value;
    return mean;
  });
}

/**
 * Put tables with different x values into one, as a chart needs them.
 *
 * @param {{x: number[], columns: (number|null)[][]}[]} tables each in ascending order of x.
 * @returns {(number|null|undefined)[][]} x, then all columns; undefined where a table has no such x.
 */
export function merged(tables) {
  const at = tables.map(() => 0);
  const width = tables.reduce((sum, { columns }) => sum + columns.length, 0);
  const result = Array.from({ length: width + 1 }, () => []);
  for (;;) {
    const heads = tables.map(({ x }, n) => (at[n] < x.length ? x[at[n]] : Infinity));
    const x = Math.min(...heads);
    if (x === Infinity) return result;
    result[0].push(x);
    let column = 1;
    tables.forEach(({ columns }, n) => {
      const isHere = heads[n] === x;
      for (const values of columns) result[column++].push(isHere ? values[at[n]] : undefined);
      if (isHere) at[n] += 1;
    });
  }
}
