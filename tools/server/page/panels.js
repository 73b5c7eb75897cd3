// The charts of runs: which curves there are, how they are drawn, and the controls above them.

import { Chart, ChartGroup } from "./chart.js";
import { AXES, merged, smoothed } from "./curve.js";
import { el, icon } from "./dom.js";
import { count, duration, figure, figureOf, percent } from "./format.js";
import { t } from "./language.js";

const KEPT = "charts";
const LEFT_OUT = new Set(["forward_ms", "backward_ms", "tokens_per_second", "samples_per_second", "loss", "grad_norm", "learning_rate"]);

/** How curves are drawn: kept for the next run that is looked at. */
export const look = { axis: "step", isLog: true, smoothing: 0.9, ...read() };

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

/** Return the controls of `look`; each change is kept, and `changed` is called. */
export function lookControls(group, changed) {
  const set = (change) => {
    Object.assign(look, change);
    localStorage.setItem(KEPT, JSON.stringify(look));
    group.zoom = null;
    changed();
  };
  const names = { step: t("step"), seconds: t("time"), tokens: t("tokens"), epoch: t("epoch") };
  const reset = el("button.quiet", { type: "button", id: "zoom", hidden: true, onclick: () => group.setZoom(null) }, icon("reset"), t("Whole curve"));
  group.onZoom = (range) => { reset.hidden = range === null; };
  return el("div.row", { id: "look", role: "group", "aria-label": t("How curves are drawn") },
    el("label.inline", {}, t("x"), el("select", { id: "axis", onchange: (event) => set({ axis: event.target.value }) },
      AXES.map((axis) => el("option", { value: axis, selected: axis === look.axis }, names[axis])))),
    el("label.inline", {}, el("input", { type: "checkbox", id: "log", checked: look.isLog, onchange: (event) => set({ isLog: event.target.checked }) }), t("log scale")),
    el("label.inline", {}, t("smoothing"), el("input", {
      type: "range", id: "smoothing", min: 0, max: 0.99, step: 0.01, value: look.smoothing, oninput: (event) => set({ smoothing: Number(event.target.value) }),
    })), reset);
}

/** Return the name of a figure, as people call it. */
export function figureName(key) {
  const names = {
    loss: () => t("loss"), accuracy: () => t("accuracy"), perplexity: () => t("perplexity"), grad_norm: () => t("gradient norm"),
    learning_rate: () => t("learning rate"), tokens_per_second: () => t("tokens per second"), samples_per_second: () => t("samples per second"),
    val_loss: () => t("validation loss"), best_loss: () => t("best loss"), best_step: () => t("best step"), step: () => t("step"), training_seconds: () => t("seconds of training"),
  };
  return names[key] ? names[key]() : key.replaceAll("_", " ");
}

const shares = new Set(["accuracy"]);

/** Note which figures are shares, as their task declares them. */
export function learnForms(forms = {}) {
  for (const [key, form] of Object.entries(forms)) if (form === "percent") shares.add(key);
}

/** Say whether a figure is shown in percent. */
export const isShare = (key) => shares.has(key);

/** The charts of one run. */
export class RunCharts {
  constructor() {
    this.group = new ChartGroup();
    this.charts = new Map();
    this.element = el("div.charts");
  }

  close() {
    for (const chart of [...this.charts.values()]) chart.close();
  }

  /** Draw a run's curves as they are now. */
  draw(curve) {
    this.curve = curve;
    this.#loss(curve);
    for (const key of curve.keys.filter((one) => !LEFT_OUT.has(one))) this.#figure(curve, key);
    if (curve.series.grad_norm) this.#figure(curve, "grad_norm", "tertiary");
    if (curve.series.learning_rate) this.#plain(curve, "learning_rate");
    const speed = ["tokens_per_second", "samples_per_second"].find((key) => curve.series[key]);
    if (speed) this.#figure(curve, speed, "good", false);
  }

  #chart(name, title, how = {}) {
    if (!this.charts.has(name)) {
      const chart = new Chart({ name, title, group: this.group, ...how });
      this.charts.set(name, chart);
      this.element.append(chart.element);
    }
    return this.charts.get(name);
  }

  #loss(curve) {
    const chart = this.#chart("loss", t("Loss"), { height: 320 });
    chart.element.classList.add("wide");
    this.#draw(chart, curve, "loss", "primary", look.isLog);
  }

  #figure(curve, key, colour = "primary", isLog = look.isLog && !isShare(key)) {
    this.#draw(this.#chart(key, capital(figureName(key)), formatOf(key)), curve, key, colour, isLog);
  }

  #plain(curve, key) {
    const chart = this.#chart(key, capital(figureName(key)));
    chart.draw({
      data: [curve[look.axis], curve.series[key].value], axis: look.axis, isLog: look.isLog, lines: this.#resumed(curve),
      series: [{ label: figureName(key), colour: "primary", width: 1.8 }],
    });
  }

  #draw(chart, curve, key, colour, isLog) {
    const { value = [], low = [], high = [] } = curve.series[key] ?? {};
    const held = curve.evaluations[key] ? curve.evaluations[look.axis] : null;
    const isSmooth = look.smoothing > 0;
    const columns = [value, low, high, ...(isSmooth ? [smoothed(value, look.smoothing)] : [])];
    const tables = [{ x: curve[look.axis], columns }];
    const series = [
      { key: "value", label: t("each update"), colour, width: isSmooth ? 1 : 1.6, alpha: isSmooth ? 0.5 : 1, band: curve.isThinned ? ["low", "high"] : null },
      { key: "low", hidden: true, colour },
      { key: "high", hidden: true, colour },
    ];
    if (isSmooth) series.push({ key: "smooth", label: t("smoothed"), colour: colour === "secondary" ? "primary" : "secondary", width: 2 });
    if (held) {
      tables.push({ x: held, columns: [curve.evaluations[key]] });
      series.push({ key: "held", label: t("validation"), colour: "tertiary", width: 1.8, points: true });
    }
    chart.draw({
      data: merged(tables), series, axis: look.axis, isLog, lines: this.#resumed(curve),
      crosses: (curve.nonfinite[key] ?? []).map((step) => curve.at(step, look.axis)),
    });
  }

  #resumed(curve) {
    return curve.resumedAt.map((step) => curve.at(step, look.axis));
  }
}

/** Return how a chart writes a figure. */
export function formatOf(key) {
  if (isShare(key)) return { format: percent };
  return key.endsWith("_per_second") ? { format: count } : { format: figure };
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Return the figures of a run in words, name → text. */
export function runFigures(run) {
  const metrics = Object.keys(run.metrics ?? {}).map((key) => [figureName(key), figureOf(run, key, isShare(key) ? percent : figure)]);
  const rows = [
    [t("step"), run.total_steps ? `${count(run.step)} / ${count(run.total_steps)}` : count(run.step)],
    [t("epoch"), figure(run.epoch)],
    [t("loss"), figureOf(run, "loss")],
    [t("validation"), figureOf(run, "val_loss")],
    [run.best_step ? t("best (step {step})", { step: count(run.best_step) }) : t("best"), figureOf(run, "best_loss")],
    ...metrics,
    [t("speed"), run.speed ? `${count(run.speed)} ${run.unit === "samples" ? t("samples") : t("tok")}/s` : "–"],
    [t("time left"), duration(run.eta_seconds)],
    [t("trained for"), duration(run.training_seconds)],
    [t("device"), run.device ?? "–"],
  ];
  return rows;
}
