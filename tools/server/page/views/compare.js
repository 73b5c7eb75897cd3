// Up to twenty runs side by side: their curves over each other, the settings in which they differ, and statistics.

import { get, ofRun, withQuery } from "../api.js";
import { Chart, ChartGroup, colourOfRun } from "../chart.js";
import { Curve, merged, smoothed } from "../curve.js";
import { faultOf } from "../dialog.js";
import { debounced, el, fill, icon } from "../dom.js";
import { figure, percent, UNKNOWN, value } from "../format.js";
import { t } from "../language.js";
import { capital, figureName, formatOf, isShare, learnForms, look, lookControls } from "../panels.js";
import { stateSign } from "../states.js";

const MOST = 20;
const DASHES = [undefined, [6, 4]];

/** Show the view. */
export function showCompare(root, parameters) {
  let ids = idsOf(parameters);
  let compared = null;
  let keys = ["loss"];
  let known = [];
  let asked = null;
  const group = new ChartGroup();
  const charts = new Map();
  const chips = el("div.row", { role: "list", "aria-label": t("Compared runs") });
  const results = el("div.stack", {});
  const search = el("input", {
    type: "search", role: "combobox", "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list", placeholder: t("Add a run by its name"),
    "aria-label": t("Add a run by its name"), oninput: debounced(find, 200), onkeydown: (event) => { if (event.key === "Escape") clearFound(); if (event.key === "ArrowDown") { event.preventDefault(); found.querySelector("button")?.focus(); } },
  });
  const found = el("div.row", { id: "found", role: "group", "aria-label": t("Runs that fit") });
  const plots = el("div.charts", {});
  const choice = el("div.segments", { role: "group", "aria-label": t("Figures") });
  root.append(el("h1", {}, t("Compare")), el("section.panel.stack", {}, el("div.row", {}, el("div.search", {}, icon("search"), search), found), chips),
    el("div.row", {}, choice, el("span.spread"), lookControls(group, draw)), plots, results);

  // -- which runs -----------------------------------------------------------------------------------------------------

  function choose(now) {
    ids = now.slice(0, MOST);
    history.replaceState(null, "", ids.length ? `#/compare?ids=${ids.join(",")}` : "#/compare");
    load();
  }

  async function find() {
    const words = search.value.trim();
    if (!words) return clearFound();
    try {
      const { jobs } = await get(withQuery("/api/training/jobs", { search: words, limit: 12 }));
      const others = jobs.filter((run) => !ids.includes(run.id));
      search.setAttribute("aria-expanded", String(others.length > 0));
      return fill(found, others.length ? others.map((run) => el("button", { type: "button", onclick: () => { clearFound(); choose([...ids, run.id]); search.focus(); } }, run.name, stateSign(run.state)))
        : el("span.faint", {}, t("No other run has this name.")));
    } catch (error) {
      return fill(found, faultOf(error));
    }
  }

  function clearFound() {
    search.value = "";
    search.setAttribute("aria-expanded", "false");
    fill(found);
  }

  async function load() {
    asked?.abort();
    fill(chips);
    if (!ids.length) {
      compared = null;
      draw();
      fill(results, el("div.panel.empty", {}, el("p", {}, t("Pick up to {most} runs: here by name, or in the table of runs.", { most: MOST })), el("a.button", { href: "#/runs" }, t("All runs"))));
      return;
    }
    asked = new AbortController();
    if (!compared) fill(results, el("p.empty", {}, t("Reading …")));
    try {
      const answer = await (ids.length > 1 ? several() : one());
      compared = { ...answer, curves: Object.fromEntries(Object.entries(answer.curves).map(([id, of]) => [id, new Curve(of)])) };
      known = [...new Set(Object.values(answer.curves).flatMap((of) => of.keys))];
      for (const run of answer.runs) learnForms(run.metric_forms);
      draw();
      drawResults();
    } catch (error) {
      if (error.name === "AbortError") return;
      compared = null;
      draw();
      fill(results, el("div.panel", {}, faultOf(error)));
    }
  }

  const several = () => get(withQuery("/api/training/compare", { ids: ids.join(","), keys: keys.join(",") }), { signal: asked.signal });

  /** One run alone is no comparison yet: it is shown as it is. */
  async function one() {
    const [run, of] = await Promise.all([get(ofRun(ids[0]), { signal: asked.signal }), get(withQuery(ofRun(ids[0], "metrics/history"), { keys: keys.join(",") }), { signal: asked.signal })]);
    return { runs: [run], curves: { [ids[0]]: of } };
  }

  // -- curves ---------------------------------------------------------------------------------------------------------

  const colourOf = (id) => colourOfRun(ids.indexOf(id));
  const dashOf = (id) => DASHES[Math.floor(ids.indexOf(id) / 10) % 2];

  function draw() {
    const runs = compared?.runs ?? [];
    fill(chips, runs.map((run) => el("span.row", { role: "listitem" }, el("span.key", { vars: { key: `var(--${colourOf(run.id)})` }, class: dashOf(run.id) ? "dashed" : "" }),
      el("a", { href: `#/runs/${run.id}` }, run.name),
      el("button.quiet", { type: "button", "aria-label": t("Take {name} out", { name: run.name }), onclick: () => choose(ids.filter((id) => id !== run.id)) }, icon("close")))));
    const focused = document.activeElement?.dataset?.figure;
    fill(choice, runs.length ? known.map((key) => el("button", { type: "button", "data-figure": key, "aria-pressed": String(keys.includes(key)), onclick: () => toggle(key) }, figureName(key))) : null);
    if (focused) choice.querySelector(`[data-figure="${CSS.escape(focused)}"]`)?.focus();
    const shown = runs.length ? keys.flatMap((key) => (key === "loss" && runs.some((run) => compared.curves[run.id]?.evaluations.loss) ? ["loss", "validation"] : [key])) : [];
    for (const [name, chart] of charts) if (!shown.includes(name)) { chart.close(); chart.element.remove(); charts.delete(name); }
    for (const name of shown) drawChart(name, runs);
  }

  function toggle(key) {
    keys = keys.includes(key) ? keys.filter((other) => other !== key) : [...keys, key];
    load();
  }

  function drawChart(name, runs) {
    if (!charts.has(name)) {
      const title = name === "validation" ? t("Validation loss") : capital(figureName(name));
      const chart = new Chart({ name, title, group, height: 320, ...formatOf(name) });
      charts.set(name, chart);
      plots.append(chart.element);
    }
    const [tables, series] = [[], []];
    for (const run of runs) {
      const curve = compared.curves[run.id];
      if (!curve) continue;
      const isHeld = name === "validation";
      const values = isHeld ? curve.evaluations.loss : curve.series[name]?.value;
      if (!values) continue;
      tables.push({ x: isHeld ? curve.evaluations[look.axis] : curve[look.axis], columns: [isHeld || !look.smoothing ? values : smoothed(values, look.smoothing)] });
      series.push({ label: run.name, colour: colourOf(run.id), dash: dashOf(run.id), width: 1.8, points: isHeld });
    }
    charts.get(name).draw({ data: merged(tables), series, axis: look.axis, isLog: look.isLog && !isShare(name) });
  }

  // -- tables ---------------------------------------------------------------------------------------------------------

  function drawResults() {
    const { runs, settings = {}, figures = {}, statistics = [], no_statistics: whyNot = "" } = compared;
    const head = () => el("thead", {}, el("tr", {}, el("td", {}), runs.map((run) => el("th", { scope: "col" }, el("span.key", { vars: { key: `var(--${colourOf(run.id)})` } }), run.name))));
    const table = (rows, cell, nameOf) => el("div.scroll", { tabindex: "0" }, el("table", {}, head(), el("tbody", {}, rows.map(([key, of]) =>
      el("tr", {}, el("th", { scope: "row" }, nameOf(key)), runs.map((run) => el("td.mono", {}, run.id in of ? cell(of[run.id], key) : UNKNOWN)))))));
    const [differing, measured] = [Object.entries(settings), Object.entries(figures)];
    fill(results,
      el("section.panel.stack", { id: "differing" }, el("h2", {}, t("Settings that differ")), differing.length ? table(differing, value, (key) => el("code", {}, key))
        : el("p.empty", {}, runs.length < 2 ? t("Add a second run to see in what they differ.") : t("No setting differs."))),
      measured.length ? el("section.panel.stack", {}, el("h2", {}, t("Figures")), table(measured, (of, key) => (isShare(key) ? percent(of) : figure(of)), (key) => figureName(key))) : null,
      runs.length > 1 ? el("section.panel.stack", {}, el("h2", {}, t("Statistics")), statistics.length ? statistics.map(paired) : el("p.faint", {}, whyNot)) : null);
  }

  /** Show what a variant changes against the first run's settings, over the seeds that both were trained with. */
  function paired({ reference, variant, seeds, measure, mean, interval, p, more_than_the_spread: isMore }) {
    const words = (of) => Object.entries(of).map(([key, one]) => `${key.split(".").pop()} ${value(one)}`).join(", ");
    return el("div.stack", {}, el("h3", {}, t("{variant}, less {reference}", { variant: words(variant), reference: words(reference) })), el("dl.figures", {}, [
      [t("difference in {measure}", { measure: figureName(measure) }), figure(mean)],
      [t("95 % interval"), interval.map(figure).join(" … ")],
      ["p", figure(p)],
      [t("seeds"), seeds.map(value).join(", ")],
    ].map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
    el("p", { class: isMore ? "verdict" : "faint" }, isMore ? t("More than the seeds' spread.") : t("Not more than the seeds' spread.")));
  }

  load();
  return {
    title: t("Compare"),
    change(now) {
      const given = idsOf(now);
      if (given.join() !== ids.join()) { ids = given; load(); }
      return true;
    },
    close() {
      asked?.abort();
      for (const chart of charts.values()) chart.close();
    },
  };
}

function idsOf({ ids = "" }) {
  return [...new Set(ids.split(",").filter(Boolean))].slice(0, MOST);
}
