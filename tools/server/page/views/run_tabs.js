// What a run leaves behind, a tab each: settings, log, checkpoints, certificates, samples, pictures, and a chat with it.

import { get, ofRun, post, withQuery } from "../api.js";
import { attempt, faultOf } from "../dialog.js";
import { announce, el, fill, icon, throttled } from "../dom.js";
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
  chat: { title: () => t("Chat"), show: showChat },
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
  if (!entries.length) {
    fill(panel, none(t("The settings are known when the run has begun.")));
    return {};
  }
  const search = el("input", { type: "search", placeholder: t("Search settings"), "aria-label": t("Search settings"), oninput: draw });
  const given = el("input", { type: "checkbox", onchange: draw });
  const body = el("tbody");
  const facts = Object.entries(run.facts ?? {}).filter(([, of]) => of !== null && typeof of !== "object");
  fill(panel,
    el("div.row", {}, el("div.search", {}, icon("search"), search), el("label.inline", {}, given, t("only those that were given"))),
    el("div.scroll.tall", { tabindex: "0", role: "region", "aria-label": t("Settings") }, el("table", {}, el("thead", {}, el("tr", {}, [t("Setting"), t("Value"), t("Set by")].map((name) => el("th", { scope: "col" }, name)))), body)),
    facts.length ? [el("h3", {}, t("Facts")), el("dl.figures", {}, facts.map(([key, of]) => el("div", {}, el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, typeof of === "number" ? figure(of) : value(of)))))] : null);
  function draw() {
    const words = search.value.toLowerCase();
    const isShown = ([key, of]) => `${key} ${value(of.value)}`.toLowerCase().includes(words) && (!given.checked || isGiven(of.origin));
    fill(body, entries.filter(isShown).map(([key, of]) =>
      el("tr", {}, el("td", {}, el("code", {}, key)), el("td.mono", {}, value(of.value)), el("td.faint", {}, originName(of.origin)))));
  }
  draw();
  return {};
}

const isGiven = (origin) => origin && !/^default/.test(origin);

function originName(origin) {
  if (!origin) return UNKNOWN;
  return origin === "default" ? t("default") : origin;
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
        const { size } = await get(withQuery(ofRun(run.id, "logs"), { offset: 0, limit: 1 }));
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
        text.append(part.text);
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
    text.prepend(part.text);
    text.scrollTop += text.scrollHeight - height;
    first = start;
    earlier.hidden = first === 0;
  }

  const soon = throttled(read, 1000);
  const timer = setInterval(() => { if (!document.hidden) soon(); }, 3000); // what a process prints need not be an event
  read();
  return { take: soon, refresh: soon, close() { isClosed = true; clearInterval(timer); soon.cancel(); } };
}

function sourceName(source) {
  if (!source) return "";
  return { output: t("the process's output"), record: t("the record's lines") }[source] ?? source;
}

// -- checkpoints -------------------------------------------------------------------------------------------------------

function showCheckpoints(panel, run) {
  const draw = ({ checkpoints }) => {
    if (!checkpoints.length) return none(t("No checkpoint was saved yet."));
    return el("div.scroll", {}, el("table.cards", {},
      el("thead", {}, el("tr", {}, [t("Checkpoint"), t("Step"), t("Size"), t("Saved")].map((name) => el("th", { scope: "col" }, name)), el("th", {}, el("span.sr", {}, t("actions"))))),
      el("tbody", {}, checkpoints.map((one) => el("tr", {},
        el("td.what", {}, el("div.row", {}, el("code.name", {}, one.name), one.is_best ? el("span.tag", {}, t("best")) : null)),
        el("td", { "data-label": t("Step") }, count(one.step)), el("td", { "data-label": t("Size") }, bytes(one.bytes)), el("td", { "data-label": t("Saved") }, moment(one.time)),
        el("td.wide", {}, el("div.row.end", {},
          el("a.button", { href: `/api/training/checkpoints/${encodeURIComponent(one.id)}/download`, download: "" }, icon("download"), t("Download")),
          isAtWork(run.state) ? null : el("button", { type: "button", onclick: () => resumeFrom(one) }, icon("play"), t("Resume here")))))))));
  };
  const resumeFrom = (one) => attempt(async () => {
    await post(ofRun(run.id, "resume"), { checkpoint: one.name });
    announce(t("{name} is resumed", { name: run.name }), "good");
  });
  const { read, close } = reader(panel, ofRun(run.id, "checkpoints"), draw);
  return { take: ({ name }) => ["checkpoint", "best", "final_model"].includes(name) && read(), refresh: (now) => { run = now; read(); }, close };
}

// -- certificates, samples ---------------------------------------------------------------------------------------------

function showCertificates(panel, run) {
  const draw = ({ certificates = [] }) => (certificates.length ? certificates.map(certificate)
    : none(t("There is no certificate yet. Some are written before the first step, others when the model is finished.")));
  const { read, close } = reader(panel, ofRun(run.id, "certificates"), draw);
  return { refresh: read, close };
}

function certificate({ name, title, lines, text, content, document }) {
  const shown = lines?.join("\n") ?? text ?? value(content ?? document);
  return el("section.stack", {}, el("h3", {}, title ?? name), el("pre.log", { tabindex: "0" }, shown));
}

function showSamples(panel, run) {
  const draw = ({ samples = [] }) => (samples.length ? samples.map(sample) : none(t("The run shows samples when it ends.")));
  const { read, close } = reader(panel, ofRun(run.id, "samples"), draw);
  return { take: ({ name }) => ["conclusion", "said"].includes(name) && read(), refresh: read, close };
}

function sample(of) {
  if (typeof of === "string") return el("div.sample", {}, of);
  const { question, prompt, answer, text, expected, right, is_right: isRight = right } = of;
  return el("div.sample", { class: isRight === true ? "right" : isRight === false ? "wrong" : "" },
    question ?? prompt ? el("span.faint", {}, question ?? prompt) : null, el("span.answer", {}, answer ?? text ?? ""),
    isRight === false && expected ? el("small.faint", {}, t("expected: {answer}", { answer: expected })) : null);
}

// -- pictures ----------------------------------------------------------------------------------------------------------

function showPictures(panel, run) {
  const names = {
    landscape: () => t("Loss landscape"), trajectory: () => t("Path through weight space"), loss: () => t("Loss curves"), gradient: () => t("Gradient norm"),
    "learning-rate": () => t("Learning rate"), status: () => t("Figures"),
  };
  const nameOf = (key) => (names[key] ? names[key]() : capital(figureName(key)));
  const draw = ({ pictures = [] }) => {
    if (!pictures.length) return none(t("There is nothing to draw yet."));
    return el("div.pictures", {}, pictures.map((one) => {
      const key = typeof one === "string" ? one : one.panel ?? one.name;
      const language = chosenLanguage();
      const theme = document.documentElement.dataset.theme === "light" ? "paper" : "cyber";
      const source = withQuery(ofRun(run.id, `pictures/${encodeURIComponent(key)}`), { lang: language, theme });
      return el("figure", {}, el("img", { src: source, alt: nameOf(key), loading: "lazy", decoding: "async" }), el("figcaption.faint", {}, nameOf(key)));
    }));
  };
  const { read, close } = reader(panel, ofRun(run.id, "pictures"), draw);
  return { refresh: read, close };
}
