// Up to twenty runs side by side: their curves over each other, the settings in which they differ, and statistics.

import { get, withQuery } from "../api.js";
import { Chart, ChartGroup, colourOfRun } from "../chart.js";
import { Curve, merged, smoothed } from "../curve.js";
import { faultOf } from "../dialog.js";
import { debounced, el, fill, icon } from "../dom.js";
import { figure, value } from "../format.js";
import { t } from "../language.js";
import { capital, figureName, look, lookControls } from "../panels.js";
import { stateSign } from "../states.js";

const MOST = 20;
const DASHES = [undefined, [6, 4]];

/** Show the view. */
export function showCompare(root, parameters) {
  let ids = idsOf(parameters);
  let compared = null;
  let keys = ["loss"];
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
  load();

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
      const answer = await get(withQuery("/api/training/compare", { ids: ids.join(",") }), { signal: asked.signal });
      compared = { ...answer, curves: Object.fromEntries(Object.entries(answer.curves ?? {}).map(([id, of]) => [id, new Curve(of)])) };
      draw();
      drawResults();
    } catch (error) {
      if (error.name === "AbortError") return;
      compared = null;
      draw();
      fill(results, el("div.panel", {}, faultOf(error)));
    }
  }

  // -- curves ---------------------------------------------------------------------------------------------------------

  const colourOf = (id) => colourOfRun(ids.indexOf(id));
  const dashOf = (id) => DASHES[Math.floor(ids.indexOf(id) / 10) % 2];

  function draw() {
    const runs = compared?.runs ?? [];
    fill(chips, runs.map((run) => el("span.row", { role: "listitem" }, el("span.key", { vars: { key: `var(--${colourOf(run.id)})` }, class: dashOf(run.id) ? "dashed" : "" }),
      el("a", { href: `#/runs/${run.id}` }, run.name),
      el("button.quiet", { type: "button", "aria-label": t("Take {name} out", { name: run.name }), onclick: () => choose(ids.filter((id) => id !== run.id)) }, icon("close")))));
    const known = [...new Set(runs.flatMap((run) => compared.curves[run.id]?.keys ?? []))];
    fill(choice, known.map((key) => el("button", { type: "button", "aria-pressed": String(keys.includes(key)), onclick: () => { keys = keys.includes(key) ? keys.filter((one) => one !== key) : [...keys, key]; draw(); } }, figureName(key))));
    const shown = runs.length ? keys.flatMap((key) => (key === "loss" && runs.some((run) => compared.curves[run.id]?.evaluations.loss) ? ["loss", "validation"] : [key])) : [];
    for (const [name, chart] of charts) if (!shown.includes(name)) { chart.close(); chart.element.remove(); charts.delete(name); }
    for (const name of shown) drawChart(name, runs);
  }

  function drawChart(name, runs) {
    if (!charts.has(name)) {
      const title = name === "validation" ? t("Validation loss") : capital(figureName(name));
      const chart = new Chart({ name, title, group, height: 320 });
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
    charts.get(name).draw({ data: merged(tables), series, axis: look.axis, isLog: look.isLog && name !== "accuracy" });
  }

  // -- tables ---------------------------------------------------------------------------------------------------------

  function drawResults() {
    const { runs, settings = {}, statistics } = compared;
    const head = () => el("thead", {}, el("tr", {}, el("th", {}, ""), runs.map((run) => el("th", { scope: "col" }, el("span.key", { vars: { key: `var(--${colourOf(run.id)})` } }), run.name))));
    const differing = Object.entries(settings);
    fill(results,
      el("section.panel", {}, el("h2", {}, t("Settings that differ")), differing.length
        ? el("div.scroll", {}, el("table", {}, head(), el("tbody", {}, differing.map(([key, of]) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, key)), runs.map((run) => el("td.mono", {}, run.id in of ? value(of[run.id]) : "–")))))))
        : el("p.empty", {}, runs.length < 2 ? t("Add a second run to see in what they differ.") : t("No setting differs."))),
      statisticsOf(statistics, runs));
  }

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

/** Return the statistics of a comparison as a panel: lines as they are, mappings and lists of mappings as tables. */
function statisticsOf(statistics, runs) {
  if (!statistics) return null;
  const nameOf = (id) => runs.find((run) => run.id === id)?.name ?? id;
  return el("section.panel.stack", {}, el("h2", {}, t("Statistics")), shown(statistics));

  function shown(of) {
    if (Array.isArray(of)) {
      if (of.every((one) => typeof one !== "object")) return el("pre.log", { tabindex: "0" }, of.join("\n"));
      const columns = [...new Set(of.flatMap((row) => Object.keys(row ?? {})))];
      return el("div.scroll", {}, el("table", {}, el("thead", {}, el("tr", {}, columns.map((key) => el("th", { scope: "col" }, capital(figureName(key)))))),
        el("tbody", {}, of.map((row) => el("tr", {}, columns.map((key) => el("td", {}, cell(row[key]))))))));
    }
    if (of !== null && typeof of === "object") {
      return el("dl.figures", {}, Object.entries(of).map(([key, one]) => el("div", {}, el("dt", {}, nameOf(key)), el("dd", {}, one !== null && typeof one === "object" ? shown(one) : cell(one)))));
    }
    return el("p", {}, cell(of));
  }

  function cell(of) {
    if (typeof of === "number") return figure(of);
    if (typeof of === "string") return nameOf(of);
    return Array.isArray(of) && of.every((one) => typeof one === "number") ? of.map(figure).join(" – ") : value(of);
  }
}
