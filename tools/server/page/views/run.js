// One run: its curves while they grow, its figures, and everything that it leaves behind.

import { askDelete, askNote, askStop, askTags, archive, resume } from "../actions.js";
import { follow, get, ofRun, withQuery } from "../api.js";
import { Curve } from "../curve.js";
import { faultOf } from "../dialog.js";
import { debounced, el, fill, icon, throttled } from "../dom.js";
import { chosenLanguage, t } from "../language.js";
import { learnForms, lookControls, RunCharts, runFigures } from "../panels.js";
import { alertText, isAtWork, progressBar, stateSign } from "../states.js";
import { TABS } from "./run_tabs.js";
import { progressWords } from "./runs.js";

const POINTS = 1000;

/** Show the view. */
export function showRun(root, { id, part }) {
  const charts = new RunCharts();
  const head = el("section.panel.stack", { "aria-label": t("Run") }, el("p.empty", {}, t("Reading the run …")));
  const fault = el("div", {});
  const tabs = el("section.panel", { hidden: true, "aria-label": t("Details") });
  root.append(head, fault, lookControls(charts.group, () => curve && charts.draw(curve)), charts.element, tabs);

  let run = null;
  let curve = null;
  let stream = null;
  let isClosed = false;
  let open = null;

  // -- the run's figures ----------------------------------------------------------------------------------------------

  async function loadRun() {
    try {
      const found = await get(ofRun(id));
      if (isClosed) return;
      const isOther = !run || run.state !== found.state;
      run = found;
      learnForms(run.metric_forms);
      document.title = `${run.name} · APT`;
      drawHead();
      tabs.hidden = false;
      if (!open) showTab(TABS[part] ? part : "settings");
      else if (isOther) open.view.refresh?.(run);
    } catch (error) {
      if (isClosed) return;
      if (error.status && (!run || error.status === 404)) fill(head, faultOf(error), el("a.button", { href: "#/runs" }, t("All runs")));
      if (!error.status || error.status === 404) setTimeout(() => isClosed || loadRun(), 3000); // a new run is found within seconds
    }
  }

  const runSoon = throttled(loadRun, 2000);

  function drawHead() {
    const focused = document.activeElement?.dataset?.action;
    const changed = () => loadRun();
    const action = (name, sign, label, act, style = "") =>
      el("button", { type: "button", class: style, "data-action": name, onclick: act }, icon(sign), label);
    const buttons = [];
    if (run.job?.can_stop ?? isAtWork(run.state)) buttons.push(action("stop", "stop", t("Stop"), () => askStop(run, changed), "bad"));
    if (run.job?.can_resume ?? ["stopped", "failed", "lost"].includes(run.state)) {
      buttons.push(action("resume", "play", t("Resume"), () => resume(run, changed), "primary"));
    }
    fill(head,
      el("div.row", {}, el("h1", {}, run.name), stateSign(run.state), run.tags.map((tag) => el("span.tag", {}, tag)), el("span.spread"), buttons,
        el("a.button", { href: `#/compare?ids=${id}` }, icon("compare"), t("Compare")),
        el("a.button", { href: `#/new?from=${id}` }, icon("copy"), t("Copy")),
        el("a.button", { href: withQuery(ofRun(id, "report.html"), { lang: chosenLanguage() }), target: "_blank", rel: "noopener" }, icon("report"), t("Report")),
        action("tags", "tag", t("Tags"), () => askTags([run], changed)),
        action("note", "note", t("Note"), () => askNote(run, changed)),
        action("archive", "archive", run.archived ? t("Bring back") : t("Archive"), () => archive([run], !run.archived, changed)),
        isAtWork(run.state) ? null : action("delete", "trash", t("Delete"), () => askDelete([run], () => { location.hash = "#/runs"; }), "bad")),
      el("div.row", {}, el("div.spread", {}, progressBar(run)), el("span.faint", {}, progressWords(run))),
      run.reason && run.state !== "running" ? el("p", { class: run.state === "failed" ? "fault" : "faint" }, run.reason) : null,
      (run.alerts ?? []).filter((alert) => alert.kind !== "failed" || !run.reason).map((alert) => el("p.alert", { class: alert.kind === "not finite" ? "bad" : "" }, alertText(alert))),
      run.note ? el("p.faint", {}, run.note) : null,
      el("dl.figures", {}, runFigures(run).map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))));
    if (focused) head.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  // -- its curves -----------------------------------------------------------------------------------------------------

  /** Ask for the history, and follow the record from where it ends: no event is missed or taken twice. */
  async function loadCurve() {
    stream?.close();
    stream = null;
    try {
      const history = await get(withQuery(ofRun(id, "metrics/history"), { points: POINTS }));
      if (isClosed) return;
      curve = new Curve(history);
      fill(fault);
      charts.draw(curve);
      stream?.close();
      stream = follow(ofRun(id, "events"), { position: curve.position, onEvent: take });
    } catch (error) {
      if (isClosed) return;
      if (error.status && error.status !== 404) fill(fault, el("div.panel", {}, faultOf(error)));
      else setTimeout(() => isClosed || loadCurve(), 3000);
    }
  }

  const drawSoon = throttled(() => charts.draw(curve), 150);
  const reloadSoon = debounced(() => isClosed || loadCurve(), 200);

  function take(event) {
    const what = curve.take(event);
    if (what === "reload") {
      stream?.close();
      reloadSoon();
    }
    if (what === "changed") drawSoon();
    if (event.name !== "step" || what === "changed") runSoon();
    open?.view.take?.(event);
  }

  // -- what it leaves behind ------------------------------------------------------------------------------------------

  function showTab(name) {
    open?.view.close?.();
    const panel = el("div", { role: "tabpanel", id: "tabpanel", "aria-labelledby": `tab-${name}`, tabindex: "-1" });
    const names = Object.keys(TABS).filter((one) => TABS[one].isFor?.(run) ?? true);
    const list = el("div", { role: "tablist", "aria-label": t("Details"), onkeydown: (event) => moveTab(event, names, name) }, names.map((one) =>
      el("button", { type: "button", role: "tab", id: `tab-${one}`, "aria-selected": String(one === name), tabindex: one === name ? "0" : "-1", "aria-controls": "tabpanel",
        onclick: () => chooseTab(one) }, TABS[one].title())));
    fill(tabs, list, panel);
    open = { name, view: TABS[name].show(panel, run) };
  }

  function chooseTab(name) {
    history.replaceState(null, "", `#/runs/${id}/${name}`);
    showTab(name);
    document.getElementById(`tab-${name}`).focus();
  }

  function moveTab(event, names, name) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const to = step ? (names.indexOf(name) + step + names.length) % names.length : { Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    chooseTab(names[to]);
  }

  loadRun();
  loadCurve();
  return {
    title: t("Run"),
    close() {
      isClosed = true;
      stream?.close();
      runSoon.cancel();
      drawSoon.cancel();
      reloadSoon.cancel();
      open?.view.close?.();
      charts.close();
    },
  };
}
