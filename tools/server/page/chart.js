// Charts: uPlot in the page's colours, with light around the lines, marks, and a cursor that the keyboard moves too.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { el, fill, freshId } from "./dom.js";
import { duration, count, figure } from "./format.js";
import { t } from "./language.js";

const FONT = "12px system-ui, sans-serif";

/** Return a colour of the theme: `primary`, `text`, … */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Return the colour of the n-th of several runs. */
export const colourOfRun = (n) => `run-${n % 10}`;

const isGlowing = () => colour("glow") === "1";

/** Charts that share cursor and zoom. */
export class ChartGroup {
  constructor() {
    this.key = freshId("group");
    this.charts = new Set();
    this.zoom = null;
  }

  /** Show a part of the x axis in all charts; null: all of it. */
  setZoom(range) {
    this.zoom = range;
    for (const chart of this.charts) chart.applyZoom();
    this.onZoom?.(range);
  }
}

/**
 * One chart with its title and legend.
 *
 * A series is `{label, colour, width, alpha, dash, points, band}`: `band` names two columns, `[low, high]`, whose room is
 * filled; they have `hidden: true`.
 */
export class Chart {
  /** @param {{name: string, title: string, group: ChartGroup, height?: number, format?: (value: number) => string}} how */
  constructor({ name, title, group, height = 240, format = figure }) {
    this.name = name;
    this.title = title;
    this.group = group;
    this.height = height;
    this.format = format;
    this.plot = null;
    this.legend = el("div.legend");
    this.place = el("div.plot", { tabindex: "0", role: "img", onkeydown: (event) => this.#key(event) });
    this.element = el("figure.panel.chart", { "data-chart": name }, el("figcaption", {}, el("h3", {}, title), this.legend), this.place);
    this.element.chart = this;
    this.resize = new ResizeObserver(() => this.#fit());
    this.resize.observe(this.place);
    group.charts.add(this);
  }

  /** End the chart. */
  close() {
    this.resize.disconnect();
    this.plot?.destroy();
    this.plot = null;
    this.group.charts.delete(this);
  }

  /**
   * Draw.
   *
   * @param {{data: any[][], series: object[], axis: string, isLog: boolean, crosses?: number[], lines?: number[]}} drawn
   *   `crosses` are x of values that are not finite, `lines` x at which a run was resumed.
   */
  draw(drawn) {
    const isSame = this.plot && this.drawn && signature(this.drawn) === signature(drawn);
    this.drawn = { ...drawn, data: drawn.isLog ? onlyPositive(drawn.data) : drawn.data };
    if (isSame) {
      this.plot.setData(this.drawn.data, this.group.zoom === null);
      if (this.group.zoom !== null) this.applyZoom();
    } else {
      this.#build();
    }
    this.#say();
  }

  /** Draw in the colours of another theme. */
  redraw() {
    if (this.drawn) this.#build();
  }

  /** Return the points of the n-th series that are drawn: what tests and screen readers read. */
  points(n = 1) {
    const [xs, ys] = [this.drawn?.data[0] ?? [], this.drawn?.data[n] ?? []];
    return xs.map((x, i) => [x, ys[i]]).filter(([, y]) => y !== null && y !== undefined);
  }

  applyZoom() {
    if (!this.plot || !this.drawn.data[0].length) return;
    const xs = this.drawn.data[0];
    const [min, max] = this.group.zoom ?? [xs[0], xs[xs.length - 1]];
    this.plot.setScale("x", { min, max });
  }

  #fit() {
    const width = Math.floor(this.place.clientWidth);
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  #build() {
    this.plot?.destroy();
    const { data, series, axis, isLog } = this.drawn;
    const grid = { stroke: colour("grid"), width: 1 };
    const common = { stroke: colour("faint"), font: FONT, grid, ticks: { show: false } };
    const indexOf = (key) => 1 + series.findIndex((one) => one.key === key);
    this.plot = new uPlot(
      {
        width: Math.max(200, Math.floor(this.place.clientWidth)),
        height: this.height,
        legend: { show: false },
        scales: {
          x: { time: false, range: (u, min, max) => (min === null ? [0, 1] : min === max ? [min - 0.5, max + 0.5] : [min, max]) },
          y: isLog ? { distr: 3, range: logRange } : { range: linearRange },
        },
        axes: [
          { ...common, size: 30, values: (u, values) => values.map((value) => onAxis(axis, value)) },
          {
            ...common,
            size: 56,
            values: (u, values) => values.map((value) => (value === null ? "" : this.format(value))),
            ...(isLog ? { splits: logSplits, filter: (u, values) => values } : {}),
          },
        ],
        series: [{}, ...series.map(ofSeries)],
        bands: series.filter((one) => one.band).map((one) => ({
          series: [indexOf(one.band[1]), indexOf(one.band[0])],
          fill: withAlpha(colour(one.colour), 0.16),
        })),
        cursor: {
          sync: { key: this.group.key, scales: ["x", null], setSeries: false },
          drag: { x: true, y: false, setScale: false },
          points: { size: 7, width: 2, stroke: (u, n) => strokeOf(series[n - 1]), fill: () => colour("panel") },
          focus: { prox: -1 },
        },
        hooks: {
          drawAxes: [(u) => light(u, series[0])],
          drawSeries: [(u, n) => light(u, series[n])],
          draw: [(u) => this.#marks(u)],
          setCursor: [(u) => this.#read(u.cursor.idx)],
          setSelect: [(u) => this.#select(u)],
        },
      },
      data,
      this.place,
    );
    this.plot.over.addEventListener("dblclick", () => this.group.setZoom(null));
    if (this.group.zoom) this.applyZoom();
    this.#read(null);
  }

  #select(u) {
    if (u.select.width < 4) return;
    const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.group.setZoom(range);
  }

  #marks(u) {
    const { ctx } = u;
    const ratio = devicePixelRatio;
    const { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.shadowBlur = 0;
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    ctx.strokeStyle = withAlpha(colour("tertiary"), 0.8);
    for (const x of this.drawn.lines ?? []) {
      const at = Math.round(u.valToPos(x, "x", true)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(at, top);
      ctx.lineTo(at, top + height);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    ctx.lineWidth = 2 * ratio;
    ctx.strokeStyle = colour("bad");
    const [size, y] = [4 * ratio, top + height - 8 * ratio];
    for (const x of this.drawn.crosses ?? []) {
      const at = u.valToPos(x, "x", true);
      ctx.beginPath();
      ctx.moveTo(at - size, y - size);
      ctx.lineTo(at + size, y + size);
      ctx.moveTo(at - size, y + size);
      ctx.lineTo(at + size, y - size);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** Show the values at a point in the legend; null: the last ones. */
  #read(at) {
    const { data, series, axis } = this.drawn;
    const items = series.flatMap((one, n) => {
      if (one.hidden) return [];
      const known = at === null || at === undefined ? lastOf(data[n + 1]) : data[n + 1][at];
      return [el("span.key", { vars: { key: colour(one.colour) }, class: one.dash ? "dashed" : one.points ? "dotted" : "" },
        el("span.name", {}, one.label), el("b", {}, typeof known === "number" ? this.format(known) : ""))];
    });
    const marks = (this.drawn.crosses ?? []).length;
    if (marks) items.push(el("span.key.crossed", {}, el("span.name", {}, t("not finite")), el("b", {}, count(marks))));
    const where = at === null || at === undefined ? null : el("span.where", {}, `${axisName(axis)} ${onAxis(axis, data[0][at])}`);
    fill(this.legend, where, items);
  }

  #say() {
    const said = this.drawn.series.flatMap((one, n) => {
      const value = lastOf(this.drawn.data[n + 1]);
      return one.hidden || value === null ? [] : [`${one.label} ${this.format(value)}`];
    });
    this.place.setAttribute("aria-label", `${this.title}: ${said.join(", ") || t("no point yet")}`);
  }

  #key(event) {
    const xs = this.drawn?.data[0] ?? [];
    if (!this.plot || !xs.length) return;
    const now = this.plot.cursor.idx ?? xs.length - 1;
    const jump = Math.max(1, Math.round(xs.length / 50));
    const to = { ArrowLeft: now - jump, ArrowRight: now + jump, Home: 0, End: xs.length - 1 }[event.key];
    if (event.key === "Escape") this.group.setZoom(null);
    else if (event.key === "+" || event.key === "-") this.#zoomBy(event.key === "+" ? 0.5 : 2, xs, now);
    else if (to === undefined) return;
    else {
      const n = Math.min(xs.length - 1, Math.max(0, to));
      this.plot.setCursor({ left: this.plot.valToPos(xs[n], "x"), top: this.height / 3 });
      this.place.setAttribute("aria-label", `${this.title}: ${this.legend.innerText.replaceAll("\n", " ")}`);
    }
    event.preventDefault();
  }

  #zoomBy(factor, xs, now) {
    const [first, last] = [xs[0], xs[xs.length - 1]];
    const [low, high] = this.group.zoom ?? [first, last];
    const half = ((high - low) * factor) / 2;
    if (half * 2 >= last - first) return this.group.setZoom(null);
    const middle = Math.min(last - half, Math.max(first + half, xs[now]));
    return this.group.setZoom([middle - half, middle + half]);
  }
}

/** Return what has to stay for a chart to take other data without being built again. */
function signature({ series, axis, isLog }) {
  return JSON.stringify([series, axis, isLog]);
}

function onlyPositive(data) {
  return [data[0], ...data.slice(1).map((column) => column.map((value) => (typeof value === "number" && value <= 0 ? null : value)))];
}

function strokeOf(one) {
  return withAlpha(colour(one.colour), one.alpha ?? 1);
}

function ofSeries(one) {
  if (one.hidden) return { stroke: undefined, width: 0, points: { show: false }, spanGaps: false };
  const stroke = strokeOf(one);
  return {
    stroke,
    width: one.width ?? 1.5,
    dash: one.dash,
    spanGaps: false,
    points: one.points ? { show: true, size: 5, fill: stroke, stroke } : { show: fewPoints, size: 4, fill: stroke, stroke },
  };
}

/** Show points where a line would be nothing: a curve of one point, or one between two gaps. */
function fewPoints(u, n, from, to) {
  let shown = 0;
  for (let i = from; i <= to && shown < 2; i++) if (typeof u.data[n][i] === "number") shown += 1;
  return shown === 1;
}

function light(u, one) {
  if (!isGlowing() || !one || one.hidden) {
    u.ctx.shadowBlur = 0;
    return;
  }
  u.ctx.shadowColor = colour(one.colour);
  u.ctx.shadowBlur = (one.width ?? 1.5) * 5 * devicePixelRatio;
}

/** Return `#rrggbb` with an opacity. */
export function withAlpha(hex, alpha) {
  const of = (at) => parseInt(hex.slice(at, at + 2), 16);
  return `rgba(${of(1)}, ${of(3)}, ${of(5)}, ${alpha})`;
}

function lastOf(column) {
  for (let n = column.length - 1; n >= 0; n--) if (typeof column[n] === "number") return column[n];
  return null;
}

function linearRange(u, min, max) {
  if (min === null || max === null) return [0, 1];
  const room = (max - min || Math.abs(max) || 1) * 0.08;
  return [min >= 0 ? Math.max(0, min - room) : min - room, max + room];
}

function logRange(u, min, max) {
  if (min === null || max === null || min <= 0) return [0.1, 1];
  const room = Math.max(1.05, (max / min) ** 0.06);
  return [min / room, max * room];
}

function logSplits(u, axis, min, max) {
  const decades = Math.log10(max / min);
  if (decades < 0.5) return nearSplits(min, max);
  const multiples = decades <= 1 ? [1, 1.5, 2, 3, 5, 7] : decades <= 1.5 ? [1, 2, 5] : decades <= 3 ? [1, 3] : [1];
  const every = Math.max(1, Math.ceil(decades / 6));
  const splits = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power += every) {
    for (const multiple of multiples) splits.push(Number(`${multiple}e${power}`)); // exact, unlike a product
  }
  return splits.filter((value) => value >= min && value <= max);
}

function nearSplits(min, max) {
  const rough = (max - min) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((multiple) => multiple * power >= rough) ?? 10);
  const splits = [];
  for (let n = Math.ceil(min / step); n * step <= max; n++) splits.push(n * step);
  return splits;
}

/** Return a value of an x axis as text. */
export function onAxis(axis, value) {
  if (axis === "seconds") return value === 0 ? "0" : duration(value);
  return axis === "epoch" ? figure(value) : count(value);
}

/** Return the name of an x axis. */
export function axisName(axis) {
  return { step: t("step"), seconds: t("time"), tokens: t("tokens"), epoch: t("epoch") }[axis];
}
