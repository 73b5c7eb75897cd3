// What a run leaves behind, a tab each: settings, log, checkpoints, certificates, samples, pictures, and a chat with it.

import { askResumeFrom } from "../actions.js";
import { get, ofRun, withQuery } from "../api.js";
import { attempt, faultOf } from "../dialog.js";
import { el, fill, icon, throttled } from "../dom.js";
import { bytes, count, figure, moment, UNKNOWN, value } from "../format.js";
import { chosenLanguage, t } from "../language.js";
import { capital, figureName } from "../panels.js";
import { isAtWork } from "../states.js";
import { showChat } from "./chat.js";

/** Name → what it is called, how it is shown, and which runs have it. */
export const TABS = {
  settings: { title: () => t("Settings"), show: showSettings },
  log: { title: () => t("Log"), show: showLog },
  checkpoints: { title: () => t("Checkpoints"), show: showCheckpoints },
  samples: { title: () => t("Samples"), show: showSamples },
  certificates: { title: () => t("Certificates"), show: showCertificates },
  pictures: { title: () => t("Pictures"), show: showPictures },
  chat: { title: () => t("Chat"), show: showChat, isFor: (run) => run.can_chat ?? false },
};

const reading = () => el("p.empty", {}, t("Reading …"));
const none = (text) => el("p.empty", {}, text);

/** Show what a path answers; read again when `refresh` is called. */
function reader(panel, path, draw) {
  let asked = null;
  const read = async () => {
    asked?.abort();
    asked = new AbortController();
    try {
      fill(panel, draw(await get(path, { signal: asked.signal })));
    } catch (error) {
      if (error.name !== "AbortError") fill(panel, faultOf(error));
    }
  };
  fill(panel, reading());
  read();
  return { read, close: () => asked?.abort() };
}

// -- settings ----------------------------------------------------------------------------------------------------------

function showSettings(panel, run) {
  const entries = Object.entries(run.settings ?? {}).map(([key, of]) => [key, of !== null && typeof of === "object" && "value" in of ? of : { value: of, origin: null }]);
  const isTold = entries.some(([, of]) => of.origin); // records of earlier versions do not say who set a setting
  if (!entries.length) {
    fill(panel, none(t("The settings are known when the run has begun.")));
    return {};
  }
  const search = el("input", { type: "search", placeholder: t("Search settings"), "aria-label": t("Search settings"), oninput: draw });
  const given = el("input", { type: "checkbox", onchange: draw });
  const body = el("tbody");
  const facts = Object.entries(run.facts ?? {}).filter(([key, of]) => of !== null && typeof of !== "object" && !SHOWN_ABOVE.has(key));
  fill(panel,
    el("div.row", {}, el("div.search", {}, icon("search"), search), el("label.inline", {}, given, t("only those that were given"))),
    el("div.scroll.tall", { tabindex: "0", role: "region", "aria-label": t("Settings") }, el("table", {}, el("thead", {}, el("tr", {}, [t("Setting"), t("Value"), t("Set by")].map((name) => el("th", { scope: "col" }, name)))), body)),
    facts.length ? [el("h3", {}, t("Facts")), el("dl.figures", {}, facts.map(([key, of]) => el("div", {}, el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, factText(key, of)))))] : null);
  function draw() {
    const words = search.value.toLowerCase();
    const isShown = ([key, of]) => `${key} ${value(of.value)}`.toLowerCase().includes(words) && (!given.checked || of.origin);
    fill(body, entries.filter(isShown).map(([key, of]) =>
      el("tr", {}, el("td", {}, el("code", {}, key)), el("td.mono", {}, value(of.value)), el("td.faint", {}, of.origin ?? (isTold ? t("default") : UNKNOWN)))));
  }
  draw();
  return {};
}

/** Facts that the head of the view has, or that say nothing to a person. */
const SHOWN_ABOVE = new Set(["step", "batch", "state", "reason", "error", "traceback", "schema_version", "curve_stride", "updated_at"]);

function factText(key, of) {
  if (typeof of !== "number") return value(of);
  if (key.endsWith("_at")) return moment(of);
  return key.endsWith("_bytes") ? bytes(of) : figure(of);
}

// -- log ---------------------------------------------------------------------------------------------------------------

const TAIL = 65536;

function showLog(panel, run) {
  const text = el("pre.log", { tabindex: "0", "aria-label": t("Log") });
  const info = el("span.faint", {});
  const earlier = el("button.quiet", { type: "button", hidden: true, onclick: readEarlier }, icon("up"), t("Earlier lines"));
  fill(panel, el("div.row", {}, info, el("span.spread"), earlier), text);
  let [first, next] = [null, 0];
  let isReading = false;
  let isClosed = false;

  const read = async () => {
    if (isReading || isClosed) return;
    isReading = true;
    try {
      if (first === null) {
        const { size } = await get(withQuery(ofRun(run.id, "logs"), { limit: 1 }));
        first = next = Math.max(0, size - TAIL);
      }
      for (;;) {
        const part = await get(withQuery(ofRun(run.id, "logs"), { offset: next, limit: TAIL }));
        if (isClosed) return;
        const isAtEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
        if (part.size < next) { // the log was begun again
          [first, next] = [null, 0];
          fill(text);
          break;
        }
        text.append(readable(part));
        next = part.next_offset;
        info.textContent = [bytes(part.size), sourceName(part.source)].filter(Boolean).join(" · ");
        earlier.hidden = first === 0;
        if (isAtEnd) text.scrollTop = text.scrollHeight;
        if (!part.text || next >= part.size) break;
      }
      if (!text.textContent) info.textContent = t("Nothing was written yet.");
    } catch (error) {
      if (!isClosed) fill(info, faultOf(error));
    } finally {
      isReading = false;
    }
  };

  async function readEarlier() {
    const start = Math.max(0, first - TAIL);
    const part = await attempt(() => get(withQuery(ofRun(run.id, "logs"), { offset: start, limit: first - start })));
    if (part === null) return;
    const height = text.scrollHeight;
    text.prepend(readable(part));
    text.scrollTop += text.scrollHeight - height;
    first = start;
    earlier.hidden = first === 0;
  }

  const soon = throttled(read, 1000);
  const timer = setInterval(() => { if (!document.hidden) soon(); }, 3000); // what a process prints need not be an event
  read();
  return { take: soon, refresh: soon, close() { isClosed = true; clearInterval(timer); soon.cancel(); } };
}

/** Return what a part of a log says: of a record, each event in one line. */
function readable({ text, source }) {
  if (source !== "record") return text;
  return text.split("\n").map((line) => {
    try {
      const { event, time, lines, ...figures } = JSON.parse(line);
      const said = lines?.length ? `\n    ${lines.join("\n    ")}` : "";
      const known = Object.entries(figures).filter(([, of]) => of === null || typeof of !== "object");
      const clock = typeof time === "number" ? new Date(time * 1000).toLocaleTimeString("en-GB") : "";
      return `${clock}  ${String(event).padEnd(12)} ${known.map(([key, of]) => `${key} ${typeof of === "number" ? figure(of) : of}`).join("  ")}${said}`;
    } catch {
      return line; // half a line, at an end of the part
    }
  }).join("\n");
}

function sourceName(source) {
  if (!source) return "";
  return { output: t("the process's output"), record: t("the record's lines") }[source] ?? source;
}

// -- checkpoints -------------------------------------------------------------------------------------------------------

function showCheckpoints(panel, run) {
  const resumeFrom = (one, all) => {
    const later = all.filter((other) => other.kind === "model" || (other.step ?? 0) > one.step);
    return el("button", { type: "button", "data-resume": one.name, "aria-label": t("Resume from {name}", { name: one.name }), onclick: () => askResumeFrom(run, one, later) },
      icon("play"), t("Resume"));
  };
  const draw = ({ checkpoints }) => {
    if (!checkpoints.length) return none(t("No checkpoint was saved yet."));
    return el("div.scroll", {}, el("table.cards", {},
      el("thead", {}, el("tr", {}, [t("Checkpoint"), t("Step"), t("Size"), t("Saved")].map((name) => el("th", { scope: "col" }, name)), el("th", {}, el("span.sr", {}, t("actions"))))),
      el("tbody", {}, checkpoints.map((one) => el("tr", {},
        el("td.what", {}, el("div.row", {}, el("code.name", {}, one.name), one.is_best ? el("span.tag", {}, t("best")) : null, one.kind === "model" ? el("span.tag", {}, t("finished model")) : null)),
        el("td", { "data-label": t("Step") }, count(one.step)), el("td", { "data-label": t("Size") }, bytes(one.bytes)), el("td", { "data-label": t("Saved") }, moment(one.time)),
        el("td.wide", {}, el("div.row.end", {},
          one.kind === "checkpoint" && one.step !== null && !isAtWork(run.state) ? resumeFrom(one, checkpoints) : null,
          el("a.button", { href: `/api/training/checkpoints/${encodeURIComponent(one.id)}/download`, download: "" }, icon("download"), t("Download")))))))));
  };
  const { read, close } = reader(panel, ofRun(run.id, "checkpoints"), draw);
  return { take: ({ name }) => ["checkpoint", "best", "final_model"].includes(name) && read(), refresh: (now) => { run = now; read(); }, close };
}

// -- certificates, samples ---------------------------------------------------------------------------------------------

function showCertificates(panel, run) {
  const draw = ({ certificates }) => {
    return certificates.length ? certificates.map(certificate)
      : none(t("There is no certificate yet. Some are written before the first step, others when the model is finished."));
  };
  const { read, close } = reader(panel, ofRun(run.id, "certificates"), draw);
  return { refresh: read, close };
}

/** Show a certificate: its lines as a terminal shows them, and its counts; what is nested has a name of its own. */
function certificate({ name, lines, document: of }) {
  const names = {
    certificate: () => t("Loss mask"), packing: () => t("Packing"), merge: () => t("Merged adapter"), stop: () => t("Ends of answers"),
  };
  return el("section.stack", { "data-certificate": name }, el("h3", {}, names[name] ? names[name]() : capital(figureName(name))),
    (lines ?? []).map((line) => el("p.mono.plain", {}, line)), shownFigures(of));
}

function shownFigures(of) {
  if (of === null || typeof of !== "object") return el("p", {}, value(of));
  if (isTable(of)) return figureTable(of);
  if (Array.isArray(of)) return of.every((one) => one === null || typeof one !== "object") ? el("p.mono", {}, value(of)) : el("div.stack", {}, of.map(shownFigures));
  const [plain, nested] = [[], []];
  for (const entry of Object.entries(of)) (isObject(entry[1]) || isTable(entry[1]) ? nested : plain).push(entry);
  return [
    plain.length ? el("dl.figures", {}, plain.map(([key, one]) => el("div", {}, el("dt", {}, figureName(key)), el("dd", {}, typeof one === "number" ? figure(one) : value(one))))) : null,
    nested.map(([key, one]) => el("div.stack", {}, el("h4", {}, figureName(key)), shownFigures(one))),
  ];
}

const isObject = (of) => of !== null && typeof of === "object" && !Array.isArray(of);

/** Whether it is a list of objects whose values are plain. */
const isTable = (of) => Array.isArray(of) && of.length > 0 && of.every((row) => isObject(row) && Object.values(row).every((one) => one === null || typeof one !== "object"));

function figureTable(rows) {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return el("div.scroll", {}, el("table", {},
    el("thead", {}, el("tr", {}, keys.map((key) => el("th", { scope: "col" }, figureName(key))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, keys.map((key) => el("td.mono", {}, typeof row[key] === "number" ? figure(row[key]) : value(row[key] ?? null))))))));
}

function showSamples(panel, run) {
  let shown = null; // the picture that was chosen; null: the newest
  const draw = ({ samples: lines = [], figures = {}, pictures = [] }) => {
    if (!lines.length && !pictures.length && !Object.keys(figures).length) return none(t("The run shows samples when it ends."));
    return [
      pictures.length ? samplePictures(run, pictures, shown, (name) => { shown = name === pictures.at(-1).name ? null : name; }) : null,
      lines.length ? el("div.samples", {}, lines.map(sampleLine)) : null,
      Object.entries(figures).map(([name, of]) => el("section.stack", {}, el("h3", {}, capital(figureName(name))), answered(of) ?? shownFigures(of))),
    ];
  };
  const { read, close } = reader(panel, ofRun(run.id, "samples"), draw);
  return { take: ({ name }) => ["conclusion", "said", "samples"].includes(name) && read(), refresh: read, close };
}

/** Show the newest picture of samples, and the earlier ones in a row; one of them can be chosen. */
function samplePictures(run, pictures, shown, choose) {
  const source = ({ name }) => ofRun(run.id, `samples/${encodeURIComponent(name)}`);
  const nameOf = ({ step }) => t("Samples after step {step}", { step: count(step) });
  const image = el("img", { decoding: "async" });
  const link = el("a", { target: "_blank", rel: "noopener" }, image);
  const caption = el("figcaption.faint");
  const row = el("div.film", { role: "group", "aria-label": t("Samples while it learned") }, pictures.map((one) =>
    el("button.quiet", { type: "button", "data-name": one.name, "aria-label": nameOf(one), onclick: () => { choose(one.name); show(one); } },
      el("img", { src: source(one), alt: "", loading: "lazy", decoding: "async" }), el("span.faint", {}, count(one.step)))));
  function show(one) {
    image.src = link.href = source(one);
    image.alt = nameOf(one);
    fill(caption, nameOf(one));
    for (const button of row.children) button.setAttribute("aria-pressed", String(button.dataset.name === one.name));
  }
  show(pictures.find((one) => one.name === shown) ?? pictures.at(-1));
  return el("figure.drawn", {}, link, caption, pictures.length > 1 ? row : null);
}

/** Show a line of what the run says of its model; an answer by whether it is right. */
function sampleLine(line) {
  const judged = /\((right|wrong)[^)]*\)\s*$/.exec(line);
  const [question, answer] = line.split(" → ");
  if (answer === undefined) return el("p.mono.plain", {}, line);
  return el("div.sample", { class: judged ? judged[1] : "" }, el("span.faint", {}, question.trim()), el("span.answer", {}, answer));
}

/** Show how many questions of each group were answered right; null: these figures are something else. */
function answered(of) {
  const groups = Object.entries(of ?? {});
  if (!groups.length || !groups.every(([, one]) => typeof one?.right === "number" && typeof one?.asked === "number")) return null;
  return el("div.fields", {}, groups.map(([name, { right, asked }]) => el("div.field", {}, el("span.label", {}, name, el("span.faint", {}, `${right} / ${asked}`)),
    el("div.bar", { class: "finished", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": asked, "aria-valuenow": right, vars: { share: (asked ? right / asked : 0).toFixed(4) } }, el("i")))));
}

// -- pictures ----------------------------------------------------------------------------------------------------------

function showPictures(panel, run) {
  const names = {
    overview: () => t("Overview"), landscape: () => t("Loss landscape"), terrain: () => t("Terrain"), trajectory: () => t("Path through weight space"), loss: () => t("Loss curves"), gradient: () => t("Gradient norm"),
    "learning-rate": () => t("Learning rate"), status: () => t("Figures"), samples: () => t("Samples"),
  };
  const nameOf = (key) => (names[key] ? names[key]() : capital(figureName(key)));
  const draw = ({ pictures = [] }) => {
    if (!pictures.length) return none(t("There is nothing to draw yet."));
    return el("div.pictures", {}, pictures.map((key) => {
      const language = chosenLanguage();
      const theme = document.documentElement.dataset.theme === "light" ? "paper" : "cyber";
      const source = withQuery(ofRun(run.id, `pictures/${encodeURIComponent(key)}`), { lang: language, theme });
      const caption = el("figcaption.faint", {}, nameOf(key), " · ", t("being drawn …"));
      const image = el("img.busy", {
        src: source, alt: nameOf(key), loading: "lazy", decoding: "async",
        onload: () => { image.classList.remove("busy"); fill(caption, nameOf(key)); },
        onerror: () => { image.classList.remove("busy"); fill(caption, nameOf(key), " · ", t("it could not be drawn")); },
      });
      return el("figure", {}, el("a", { href: source, target: "_blank", rel: "noopener" }, image), caption);
    }));
  };
  const { read, close } = reader(panel, ofRun(run.id, "pictures"), draw);
  return { refresh: read, close };
}
