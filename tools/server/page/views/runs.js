// All runs: a table that is live, searched, filtered, sorted and grouped, and what is done to several runs at once.

import { askDelete, askTags, archive } from "../actions.js";
import { follow, get, withQuery } from "../api.js";
import { faultOf } from "../dialog.js";
import { debounced, el, fill, icon, throttled } from "../dom.js";
import { count, duration, figureOf, moment, UNKNOWN } from "../format.js";
import { t } from "../language.js";
import { sparkline } from "../sparkline.js";
import { alertText, isAtWork, progressBar, stateName, stateSign, STATES } from "../states.js";

const PAGE = 100;
const GROUPS = {
  none: () => t("no groups"), state: () => t("state"), task: () => t("task"), model: () => t("model"),
  backend: () => t("backend"), folder: () => t("folder"), tag: () => t("first tag"),
};
const KEPT = "runs.query";

/** Show the view. */
export function showRuns(root) {
  const query = { search: "", state: "", tag: "", where: "", sort: "-started_at", group: "none", archived: false, ...kept() };
  const rows = new Map();
  const picked = new Map();
  const drawn = new Map(); // a row that has not changed keeps its element
  let total = 0;
  let limit = PAGE;
  let tags = new Set();
  let asked = null;

  const head = el("div.row", {}, el("h1", {}, t("Runs")), el("span.faint", { id: "total", role: "status" }));
  const fault = el("div", {});
  const table = el("div.panel", {}, el("p.empty", {}, t("Reading the runs …")));
  const picker = el("div.row.picker", { hidden: true, role: "region", "aria-label": t("Picked runs") });
  root.append(head, toolbar(), fault, table, picker);

  let [stream, isClosed] = [null, false];

  // -- what is asked for ----------------------------------------------------------------------------------------------

  async function load() {
    sessionStorage.setItem(KEPT, JSON.stringify(query));
    asked?.abort();
    asked = new AbortController();
    const { search, state, tag, where, sort, archived } = query;
    try {
      const path = withQuery("/api/training/jobs", { search, state, tag, where, sort, limit, archived: archived ? "true" : "false" });
      const found = await get(path, { signal: asked.signal });
      rows.clear();
      for (const run of found.jobs) rows.set(run.id, run);
      total = found.total;
      fill(fault);
      draw();
      if (!isClosed) stream ??= follow("/api/events", { position: found.position, onEvent: take }); // no change falls between
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(fault, el("div.panel", {}, faultOf(error)));
      if (!error.status) soon();
    }
  }

  const soon = debounced(load, 600);
  const drawSoon = throttled(draw, 250);

  /** Take the rows that changed: those that are shown are drawn at once; whether another belongs here, the server says. */
  function take({ name, data }) {
    if (name === "reset") soon();
    if (name !== "runs") return;
    for (const id of data.removed ?? []) if (rows.delete(id)) total -= 1;
    let isElsewhere = false;
    for (const run of data.changed ?? []) {
      const before = rows.get(run.id);
      if (before) rows.set(run.id, run);
      if (!before || before.state !== run.state || before.archived !== run.archived) isElsewhere = true;
    }
    if (isElsewhere) soon();
    drawSoon();
  }

  // -- the toolbar ----------------------------------------------------------------------------------------------------

  function toolbar() {
    const search = el("input", {
      type: "search", id: "search", value: query.search, placeholder: t("Search names, tags, notes"), "aria-label": t("Search"),
      oninput: debounced((event) => set({ search: event.target.value.trim() }), 250),
    });
    const where = el("input.mono", {
      value: query.where, id: "where", size: 28, placeholder: "learning_rate<1e-3 and val_loss<2", "aria-label": t("Filter by settings and figures"),
      title: t("Filter by settings and figures"), onchange: (event) => set({ where: event.target.value.trim() }),
    });
    const states = el("div.segments", { role: "group", "aria-label": t("State") }, ["", ...STATES].map((state) =>
      el("button", { type: "button", "data-state": state, "aria-pressed": String(query.state === state), onclick: () => set({ state }) },
        state ? stateName(state) : t("all"))));
    const group = el("select", { "aria-label": t("Group by"), onchange: (event) => set({ group: event.target.value }) },
      Object.entries(GROUPS).map(([key, name]) => el("option", { value: key, selected: key === query.group }, name())));
    return el("div.row", { id: "toolbar" },
      el("div.search", {}, icon("search"), search), where, states,
      el("label.inline", {}, t("Group by"), group),
      el("label.inline", {}, t("Tag"), el("select", { id: "tag", onchange: (event) => set({ tag: event.target.value }) })),
      el("label.inline", {}, el("input", { type: "checkbox", checked: query.archived, onchange: (event) => set({ archived: event.target.checked }) }), t("archived")));
  }

  function set(change) {
    Object.assign(query, change);
    for (const button of root.querySelectorAll("[data-state]")) button.setAttribute("aria-pressed", String(button.dataset.state === query.state));
    load();
  }

  function drawTags() {
    const found = new Set([...rows.values()].flatMap((run) => run.tags));
    if (query.tag) found.add(query.tag);
    if (found.size === tags.size && [...found].every((tag) => tags.has(tag)) && tags.size) return;
    tags = found;
    fill(root.querySelector("#tag"), el("option", { value: "" }, t("any")), [...tags].sort().map((tag) => el("option", { value: tag, selected: tag === query.tag }, tag)));
  }

  // -- the table ------------------------------------------------------------------------------------------------------

  function draw() {
    drawTags();
    const runs = [...rows.values()];
    fill(head.querySelector("#total"), counted(runs));
    if (!runs.length) {
      fill(table, empty());
      drawPicker();
      return;
    }
    const focused = document.activeElement?.dataset?.focus;
    fill(table, el("div.scroll", {}, el("table.cards", { "aria-label": t("Runs") }, header(), grouped(runs).map(([name, members]) =>
      el("tbody", {}, name === null ? null : el("tr.group", {}, el("th", { colspan: 9, scope: "rowgroup" }, `${name} · ${members.length}`)), members.map(rowOf))))),
    total > runs.length ? el("div.row.end", {}, el("button", { type: "button", onclick: more }, t("Show more ({left} left)", { left: total - runs.length }))) : null);
    if (focused) table.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    drawPicker();
  }

  function counted(runs) {
    const running = runs.filter((run) => run.state === "running").length;
    const all = total === 1 ? t("1 run") : t("{count} runs", { count: total });
    return running ? `${all} · ${t("{count} running", { count: running })}` : all;
  }

  function empty() {
    const isFiltered = query.search || query.state || query.tag || query.where;
    return el("div.empty", {},
      el("p", {}, isFiltered ? t("No run fits these filters.") : t("There is no run yet.")),
      isFiltered
        ? el("button", { type: "button", onclick: () => { set({ search: "", state: "", tag: "", where: "" }); for (const id of ["search", "where"]) root.querySelector(`#${id}`).value = ""; } }, t("Show all"))
        : el("a.button.primary", { href: "#/new" }, icon("add"), t("Start the first one")));
  }

  function grouped(runs) {
    if (query.group === "none") return [[null, runs]];
    const groups = new Map();
    for (const run of runs) {
      const name = groupOf(run, query.group);
      groups.set(name, [...(groups.get(name) ?? []), run]);
    }
    return [...groups];
  }

  function header() {
    const column = (key, label, style = "") => {
      const [isBack, by] = [query.sort.startsWith("-"), query.sort.replace(/^-/, "")];
      const sort = by === key ? (isBack ? "descending" : "ascending") : null;
      return el("th", { class: style, scope: "col", "aria-sort": sort },
        el("button", { type: "button", "data-focus": `sort-${key}`, onclick: () => set({ sort: by === key && isBack ? key : `-${key}` }) }, label));
    };
    return el("thead", {}, el("tr", {},
      el("th", { scope: "col" }, el("span.sr", {}, t("pick"))), column("name", t("Run")), column("state", t("State")), column("progress", t("Progress")),
      el("th", { scope: "col" }, t("Loss curve")), column("loss", t("Loss"), "number"), column("val_loss", t("Validation"), "number"),
      el("th.number.hide-medium", { scope: "col" }, t("Speed")), column("started_at", t("Started"), "number")));
  }

  function rowOf(run) {
    const key = JSON.stringify([run, picked.has(run.id)]);
    if (drawn.get(run.id)?.key !== key) drawn.set(run.id, { key, node: row(run) });
    return drawn.get(run.id).node;
  }

  function row(run) {
    const pick = el("input", {
      type: "checkbox", checked: picked.has(run.id), "aria-label": t("Pick {name}", { name: run.name }), "data-focus": `pick-${run.id}`,
      onchange: (event) => { event.target.checked ? picked.set(run.id, run) : picked.delete(run.id); draw(); },
    });
    if (picked.has(run.id)) picked.set(run.id, run);
    return el("tr", { class: `${run.state} ${picked.has(run.id) ? "picked" : ""}`, "data-run": run.id },
      el("td.pick", {}, pick),
      el("td.what", {}, el("div", {},
        el("a.name", { href: `#/runs/${run.id}`, "data-focus": `run-${run.id}` }, run.name),
        el("div.row.faint", {}, el("small", {}, [run.task, run.model, run.backend].filter(Boolean).join(" · ")),
          run.tags.map((tag) => el("span.tag", {}, tag)), run.archived ? el("span.tag", {}, t("archived")) : null,
          run.alerts?.length ? el("small.worry", { class: run.alerts[0].kind === "failed" ? "bad" : "", title: run.alerts.map(alertText).join("\n") }, `⚠ ${alertText(run.alerts[0])}`) : null))),
      el("td", { "data-label": t("State") }, stateSign(run.state)),
      el("td.done", {}, el("div", {}, progressBar(run), el("small", {}, progressWords(run)))),
      el("td.curve", {}, run.sparkline?.length ? sparkline(run.sparkline, t("loss curve of {name}", { name: run.name })) : null),
      el("td.number", { "data-label": t("Loss") }, figureOf(run, "loss")),
      el("td.number", { "data-label": t("Validation") }, figureOf(run, "val_loss")),
      el("td.number.hide-medium", { "data-label": t("Speed") }, run.speed && isAtWork(run.state) ? `${count(run.speed)} ${unitName(run.unit)}/s` : UNKNOWN),
      el("td.number", { "data-label": t("Started") }, moment(run.started_at ?? run.job?.created_at)));
  }

  function more() {
    limit += PAGE;
    load();
  }

  // -- picked runs ----------------------------------------------------------------------------------------------------

  function drawPicker() {
    picker.hidden = !picked.size;
    if (!picked.size) return;
    const runs = [...picked.values()];
    const isBack = runs.every((run) => run.archived);
    const done = () => { picked.clear(); load(); };
    const action = (sign, label, act, isOff = false) => el("button", { type: "button", disabled: isOff, onclick: act }, icon(sign), label);
    fill(picker, el("b", {}, t("{count} picked", { count: runs.length })), el("span.spread"),
      action("compare", t("Compare"), () => { location.hash = `#/compare?ids=${runs.map((run) => run.id).join(",")}`; }, runs.length > 20),
      action("tag", t("Tag"), () => askTags(runs, done)),
      action("archive", isBack ? t("Bring back") : t("Archive"), () => archive(runs, !isBack, done)),
      el("button.bad", { type: "button", onclick: () => askDelete(runs, done) }, icon("trash"), t("Delete")),
      el("button.quiet", { type: "button", "aria-label": t("Pick none"), onclick: () => { picked.clear(); draw(); } }, icon("close")));
  }

  const onKey = (event) => {
    if (event.key === "/" && !/INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName) && !document.querySelector("dialog")) {
      event.preventDefault();
      root.querySelector("#search").focus();
    }
  };
  document.addEventListener("keydown", onKey);

  load();

  return {
    title: t("Runs"),
    close() {
      isClosed = true;
      stream?.close();
      soon.cancel();
      drawSoon.cancel();
      asked?.abort();
      document.removeEventListener("keydown", onKey);
    },
  };
}

/** Return how far a run is, and how long it will take. */
export function progressWords(run) {
  if (run.state === "queued") return run.job?.position ? t("place {place} in the queue", { place: run.job.position }) : t("waits for a slot");
  const steps = run.total_steps ? `${count(run.step)} / ${count(run.total_steps)}` : count(run.step);
  return run.eta_seconds && run.state === "running" ? `${steps} · ${t("{time} left", { time: duration(run.eta_seconds) })}` : steps;
}

/** Return the short name of what a run counts. */
export const unitName = (unit) => (unit === "samples" ? t("samples") : t("tok"));

function groupOf(run, group) {
  if (group === "state") return stateName(run.state);
  if (group === "folder") return run.name.includes("/") ? run.name.slice(0, run.name.lastIndexOf("/")) : t("no folder");
  if (group === "tag") return run.tags[0] ?? t("no tag");
  return run[group] ?? UNKNOWN;
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}
