// A new run: a form made from the settings' one declaration, checked and costed while it is filled in.

import { get, ofRun, post, withQuery } from "../api.js";
import { attempt, faultOf } from "../dialog.js";
import { announce, debounced, el, fill, freshId, icon } from "../dom.js";
import { bytes, duration, value as shownValue } from "../format.js";
import { chosenLanguage, t } from "../language.js";

const DRAFT = "new.draft";
const ROWS = 5;

/** Answers of a server that has too much to do now, or is away. */
const BUSY = new Set([0, 429, 503, 504]);

/** Sections in the order in which a run is thought of, the others behind them; the first two are open. */
const ORDER = ["data", "run", "optimizer", "schedule", "model", "checkpoint", "report"];
const OPENED = new Set(ORDER.slice(0, 2));

/** Show the view. */
export function showNewRun(root, { from }) {
  const draft = { task: "", model: "", backend: "", name: "", preset: "", priority: 0, settings: {}, key: freshKey(), ...(from ? {} : keptDraft()) };
  const fields = new Map();
  let form = null;
  let data = [];
  let isClosed = false;
  let [checked, costed, previewed] = [null, null, null];
  let isOutdated = false;
  let previewOf = ""; // the data set and the task whose rows are shown, or asked for

  const choices = el("section.panel.stack", { "aria-label": t("What is trained") }, el("p.empty", {}, t("Reading the settings …")));
  const sections = el("section.panel", { "aria-label": t("Settings") });
  const general = el("div", { role: "alert" });
  const estimate = el("section.panel.stack", { id: "estimate", "aria-label": t("Estimate"), "aria-live": "polite" });
  const preview = el("section.panel.stack", { id: "preview", "aria-label": t("Data") });
  const start = el("button.primary", { type: "submit", id: "start" }, icon("play"), t("Start"));
  const summary = el("span.faint", { id: "given", role: "status" });
  root.append(el("h1", {}, t("New run")), el("form.form", { novalidate: true, onsubmit: submit }, el("div.stack", {}, choices, sections),
    el("aside", {}, el("section.panel.stack", {}, el("div.row", {}, start, el("button", { type: "button", onclick: clear }, icon("reset"), t("Clear")), summary), general), estimate, preview)));

  async function begin() {
    try {
      const copied = from ? await get(ofRun(from)) : null;
      if (copied) Object.assign(draft, { task: copied.task ?? "", model: copied.model ?? "", backend: copied.backend ?? "" });
      const [answer, sets] = await Promise.all([loadForm(), get("/api/data")]);
      data = sets.data_sets;
      if (isClosed) return;
      if (copied) copy(copied, answer);
      take(answer);
    } catch (error) {
      if (isClosed) return;
      if (error.status) fill(choices, faultOf(error));
      else setTimeout(() => isClosed || begin(), 2000);
    }
  }

  /** Begin with the settings of another run that are not the defaults here, and may be set here. */
  function copy(run, { sections: all }) {
    for (const setting of all.flatMap((section) => section.settings)) {
      const of = run.settings?.[setting.key]?.value;
      if (setting.allowed === false || of === undefined || JSON.stringify(of) === JSON.stringify(setting.default)) continue;
      if (setting.type !== "dataset") draft.settings[setting.key] = of;
      else if (data.some((one) => one.name === dataName(of)) && dataName(of) !== dataName(setting.default)) draft.settings[setting.key] = [dataName(of)];
    }
  }

  const loadForm = () => get(withQuery("/api/settings/form", { task: draft.task, model: draft.model, backend: draft.backend }));

  function take(answer) {
    form = answer;
    draft.task ||= answer.task ?? nameOf(answer.tasks[0]);
    draft.model ||= answer.model ?? nameOf(answer.models[0]);
    draft.backend ||= answer.backend ?? nameOf(answer.backends[0]);
    const known = new Map(form.sections.flatMap((section) => section.settings.map((one) => [one.key, one])));
    for (const key of Object.keys(draft.settings)) if (known.get(key)?.allowed === false || !known.has(key)) delete draft.settings[key];
    drawChoices();
    drawSections();
    if (!preview.childNodes.length) fill(preview, el("h2", {}, t("Data")), el("p.faint", {}, t("Reading …")));
    if (!estimate.childNodes.length) fill(estimate, el("h2", {}, t("Estimate")), el("p.faint", {}, t("Reckoning …")));
    changed();
  }

  async function changePart(change) {
    Object.assign(draft, change);
    keep();
    const answer = await attempt(loadForm);
    if (answer && !isClosed) take(answer);
  }

  // -- what is trained ------------------------------------------------------------------------------------------------

  function drawChoices() {
    const focused = document.activeElement?.id;
    const part = (key, label, names) => field(label, el("select", { id: `part-${key}`, onchange: (event) => changePart({ [key]: event.target.value }) },
      names.map((one) => el("option", { value: nameOf(one), selected: nameOf(one) === draft[key] }, nameOf(one)))), helpOf(names.find((one) => nameOf(one) === draft[key])));
    fill(choices, el("div.fields", {},
      field(t("Name"), el("input", { id: "name", value: draft.name, maxlength: 120, autocomplete: "off", placeholder: t("made from the task and the time"), oninput: (event) => { draft.name = event.target.value.trim(); keep(); } }), t("Name of the run's directory below the root.")),
      part("task", t("Task"), form.tasks), part("model", t("Model"), form.models), part("backend", t("Backend"), form.backends),
      form.presets?.length ? field(t("Preset"), el("select", { id: "preset", onchange: (event) => applyPreset(event.target.value) }, el("option", { value: "" }, t("none")),
        form.presets.map((one) => el("option", { value: nameOf(one), selected: nameOf(one) === draft.preset }, nameOf(one)))), helpOf(form.presets.find((one) => nameOf(one) === draft.preset))) : null,
      field(t("Priority"), el("input", { id: "priority", type: "number", step: 1, value: draft.priority, oninput: (event) => { draft.priority = Number(event.target.value) || 0; keep(); } }), t("Higher ones start first when a slot is free."))));
    if (focused) document.getElementById(focused)?.focus();
  }

  function field(label, input, help, extra = null) {
    if (help) {
      input.setAttribute("aria-describedby", `${input.id}-help`);
    }
    return el("div.field", {}, el("label", { htmlFor: input.id }, label), input, extra, help ? el("p.help", { id: `${input.id}-help` }, help) : null);
  }

  function applyPreset(name) {
    const before = form.presets.find((one) => nameOf(one) === draft.preset);
    for (const [key, of] of Object.entries(before?.settings ?? {})) if (draft.settings[key] === of) delete draft.settings[key];
    const preset = form.presets.find((one) => nameOf(one) === name);
    draft.preset = name;
    Object.assign(draft.settings, preset?.settings ?? {});
    drawChoices();
    drawSections();
    changed();
  }

  // -- settings -------------------------------------------------------------------------------------------------------

  function drawSections() {
    fields.clear();
    const search = el("input", { type: "search", id: "find", placeholder: t("Search settings and their help"), "aria-label": t("Search settings and their help"), oninput: () => filter(search.value) });
    fill(sections, el("div.search", {}, icon("search"), search), inOrder(form.sections).map((section) => {
      const settings = section.settings.filter((one) => one.allowed !== false);
      if (!settings.length) return null;
      const title = el("span", {}, sectionName(section));
      return el("details", { open: OPENED.has(section.name) || settings.some((one) => one.key in draft.settings), "data-section": section.name }, el("summary", {}, title, el("span.faint", { class: "count" })),
        el("div.fields", {}, settings.map(settingField)));
    }));
    drawCounts();
  }

  function settingField(setting) {
    const id = freshId("setting");
    const fault = el("div", { id: `${id}-fault` });
    const input = control(setting, id, (given) => set(setting, given));
    input.setAttribute("aria-describedby", `${id}-help ${id}-fault`);
    const isChosen = input.tagName === "SELECT"; // its first entry says what the default is
    const was = el("div.was", {}, [isChosen ? null : t("default: {value}", { value: shownValue(setting.default) }), rangeOf(setting)].filter(Boolean).join(" · "));
    const back = el("button.quiet", { type: "button", "aria-label": t("Take {name} back to its default", { name: setting.name }), onclick: () => { set(setting, undefined); refill(setting); input.focus(); } }, icon("reset"));
    was.append(back);
    const node = el("div.field", { "data-key": setting.key }, el("label", { htmlFor: id }, setting.name), input, fault, was, el("p.help", { id: `${id}-help` }, helpOf(setting)));
    fields.set(setting.key, { setting, node, input, fault, back });
    mark(setting.key);
    return node;
  }

  function control(setting, id, given) {
    const { type } = setting;
    const now = setting.key in draft.settings ? draft.settings[setting.key] : undefined;
    if (type === "boolean") return select(id, [["", t("default: {value}", { value: shownValue(setting.default) })], ["true", t("yes")], ["false", t("no")]], now === undefined ? "" : String(now), (of) => given(of === "" ? undefined : of === "true"));
    if (type === "choice") return select(id, [["", t("default: {value}", { value: shownValue(setting.default) })], ...setting.choices.map((one) => [String(one), String(one)])], now === undefined ? "" : String(now), (of) => given(of === "" ? undefined : setting.choices.find((one) => String(one) === of)));
    if (type === "dataset") return select(id, [["", t("default: {value}", { value: shownValue(setting.default) })], ...data.map((one) => [one.name, `${one.name} · ${bytes(one.bytes)}`])], dataName(now), (of) => given(of === "" ? undefined : Array.isArray(setting.default) ? [of] : of));
    const isNumber = type === "integer" || type === "number";
    return el("input", {
      id, value: now === undefined ? "" : textOf(now), placeholder: shownValue(setting.default), autocomplete: "off", spellcheck: "false", inputmode: isNumber ? "decimal" : null,
      oninput: (event) => given(parsed(setting, event.target.value.trim())),
    });
  }

  function select(id, options, now, given) {
    const all = options.some(([of]) => of === now) ? options : [...options, [now, now]];
    return el("select", { id, onchange: (event) => given(event.target.value) }, all.map(([of, name]) => el("option", { value: of, selected: of === now }, name)));
  }

  function set(setting, given) {
    if (given === undefined) delete draft.settings[setting.key];
    else draft.settings[setting.key] = given;
    mark(setting.key);
    changed();
  }

  function refill(setting) {
    const { input } = fields.get(setting.key);
    input.value = setting.key in draft.settings ? textOf(draft.settings[setting.key]) : "";
  }

  function mark(key) {
    const { node, back } = fields.get(key);
    const isGiven = key in draft.settings;
    node.classList.toggle("changed", isGiven);
    back.hidden = !isGiven;
  }

  function drawCounts() {
    for (const details of sections.querySelectorAll("details")) {
      const given = details.querySelectorAll(".field.changed").length;
      details.querySelector(".count").textContent = given ? t("{count} given", { count: given }) : "";
    }
    const total = Object.keys(draft.settings).length;
    const given = total === 1 ? t("1 setting given, the others by default") : t("{count} settings given, the others by default", { count: total });
    summary.textContent = total ? given : t("all settings by default");
  }

  function filter(text) {
    const words = text.trim().toLowerCase();
    for (const details of sections.querySelectorAll("details")) {
      let isAny = false;
      for (const node of details.querySelectorAll(".field")) {
        const { setting } = fields.get(node.dataset.key);
        const isFit = !words || `${setting.key} ${setting.name} ${setting.help} ${setting.help_zh ?? ""}`.toLowerCase().includes(words);
        node.hidden = !isFit;
        isAny ||= isFit;
      }
      details.hidden = !isAny;
      if (words && isAny) details.open = true;
    }
  }

  // -- checked, costed, previewed -------------------------------------------------------------------------------------

  const body = () => ({ task: draft.task, model: draft.model, backend: draft.backend, settings: draft.settings });

  function changed() {
    keep();
    drawCounts();
    validateSoon();
    previewSoon();
  }

  const validateSoon = debounced(async () => {
    checked?.abort();
    checked = new AbortController();
    try {
      const { problems } = await post("/api/training/configs/validate", body(), { signal: checked.signal });
      showProblems(problems);
      if (problems.length) drawNoEstimate();
      else reckon(false);
    } catch (error) {
      if (error.name !== "AbortError" && !isClosed) showProblems([error]);
    }
  }, 350);

  /** Show each problem at its field; one without a field, or with a field that is not shown, beside the button. */
  function showProblems(problems) {
    const others = [];
    for (const { input, fault } of fields.values()) {
      input.removeAttribute("aria-invalid");
      fill(fault);
    }
    for (const problem of problems) {
      const at = fields.get(problem.key);
      if (!at) others.push(problem);
      else {
        at.input.setAttribute("aria-invalid", "true");
        at.fault.append(faultOf(problem));
        at.node.closest("details").open = true;
      }
    }
    const atFields = problems.length - others.length;
    const pointer = atFields === 1 ? t("1 setting cannot be used: see its field") : t("{count} settings cannot be used: see their fields", { count: atFields });
    fill(general, others.map(faultOf), atFields ? el("p.fault", {}, pointer) : null);
    start.disabled = problems.length > 0;
  }

  /**
   * Ask what the run costs; to measure it, the server trains a few updates.
   *
   * A process of the server reckons, so there is one such question at a time: what changes meanwhile is asked then.
   */
  async function reckon(isMeasured) {
    if (costed) {
      isOutdated = true;
      return;
    }
    isOutdated = false;
    costed = new AbortController();
    estimate.setAttribute("aria-busy", "true");
    let isLater = false;
    try {
      drawEstimate(await post("/api/training/configs/estimate", { ...body(), ...(isMeasured ? { measure: true } : {}) }, { signal: costed.signal }));
    } catch (error) {
      if (error.name === "AbortError" || isClosed) return;
      isLater = BUSY.has(error.status);
      if (!isLater && error.status === 422 && !isMeasured) drawNoEstimate();
      else fill(estimate, el("h2", {}, t("Estimate")), faultOf(error));
    } finally {
      costed = null;
      estimate.removeAttribute("aria-busy");
    }
    if (isOutdated) reckon(false);
    else if (isLater) setTimeout(() => isClosed || reckon(isMeasured), 3000);
  }

  function drawNoEstimate() {
    fill(estimate, el("h2", {}, t("Estimate")), el("p.faint", {}, t("It is made when the settings can be used.")));
  }

  function drawEstimate({ seconds, memory_bytes: memory, checkpoint_bytes: checkpoint, fits, lines = [] }) {
    const [style, words] = fits === true ? ["yes", t("It fits")] : fits === false ? ["no", t("It does not fit")] : ["unknown", t("Whether it fits is known after the first steps")];
    const rows = [[t("Time"), seconds, duration], [t("Memory"), memory, bytes], [t("A checkpoint"), checkpoint, bytes]];
    fill(estimate, el("h2", {}, t("Estimate")), el("p.fits", { class: style }, words),
      el("dl.figures", {}, rows.map(([name, of, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, typeof of === "number" ? text(of) : t("not known yet"))))),
      typeof seconds === "number" ? null : el("button", { type: "button", id: "measure", onclick: (event) => { event.target.disabled = true; reckon(true); } }, t("Train a few updates to measure it")),
      lines.length ? el("details", {}, el("summary", {}, t("How it was reckoned")), el("pre.log", { tabindex: "0" }, lines.join("\n"))) : null);
  }

  /** Ask for the first rows, unless they are here: a process of the server reads them, and no other setting changes them. */
  const previewSoon = debounced(async () => {
    const chosen = data.find((one) => one.name === dataName(givenData()));
    const wanted = chosen ? `${chosen.id} ${draft.task}` : "none";
    if (wanted === previewOf) return;
    previewOf = wanted;
    previewed?.abort();
    if (!chosen) {
      fill(preview, el("h2", {}, t("Data")), el("p.faint", {}, t("Choose a data set to see its first rows as they will be trained.")));
      return;
    }
    previewed = new AbortController();
    const path = withQuery(`/api/data/${encodeURIComponent(chosen.id)}/rows`, { limit: ROWS, task: draft.task });
    try {
      drawPreview(chosen, await get(path, { signal: previewed.signal }));
    } catch (error) {
      if (error.name === "AbortError" || isClosed) return;
      previewOf = "";
      fill(preview, el("h2", {}, chosen.name), faultOf(error));
      if (BUSY.has(error.status)) setTimeout(() => isClosed || previewSoon(), 3000);
    }
  }, 500);

  function givenData() {
    const setting = [...fields.values()].find((one) => one.setting.type === "dataset")?.setting;
    if (!setting) return null;
    return setting.key in draft.settings ? draft.settings[setting.key] : setting.default;
  }

  function drawPreview(chosen, { lines = [], rows = [] }) {
    fill(preview, el("h2", {}, chosen.name),
      el("p.faint", {}, t("The first rows as they will be trained."), " ", el("span.token.trained", {}, t("trained")), " ", el("span.token", {}, t("read only"))),
      lines.length ? el("pre.log", { tabindex: "0" }, lines.join("\n")) : null,
      rows.map((row) => el("div.data-row.tokens", {}, row.tokens?.length ? row.tokens.map((one) => el("span.token", { class: one.trained ? "trained" : "" }, one.text)) : row.text)));
  }

  // -- start ----------------------------------------------------------------------------------------------------------

  async function submit(event) {
    event.preventDefault();
    start.disabled = true;
    try {
      const order = { ...body(), ...(draft.name ? { name: draft.name } : {}), ...(draft.priority ? { priority: draft.priority } : {}) };
      const { job_id: id } = await post("/api/training/jobs/start", order, { headers: { "Idempotency-Key": draft.key } });
      sessionStorage.removeItem(DRAFT);
      announce(t("The run is in the queue."), "good");
      location.hash = `#/runs/${id}`;
    } catch (error) {
      draft.key = error.status ? freshKey() : draft.key; // without an answer it may have been started: the same key finds it
      showProblems([error]);
      start.disabled = false;
      if (!error.key) announce(error.line ?? String(error), "bad");
    }
  }

  function clear() {
    Object.assign(draft, { name: "", preset: "", priority: 0, settings: {}, key: freshKey() });
    drawChoices();
    drawSections();
    changed();
  }

  function keep() {
    sessionStorage.setItem(DRAFT, JSON.stringify(draft));
  }

  begin();
  return {
    title: t("New run"),
    close() {
      isClosed = true;
      for (const one of [validateSoon, previewSoon]) one.cancel();
      for (const one of [checked, costed, previewed]) one?.abort();
    },
  };
}

function inOrder(sections) {
  const place = ({ name }) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return [...sections].sort((a, b) => place(a) - place(b));
}

const nameOf = (one) => (typeof one === "string" ? one : one?.name ?? "");

function helpOf(one) {
  if (!one || typeof one === "string") return null;
  return (chosenLanguage() === "zh" ? one.help_zh : null) ?? one.help ?? one.summary ?? null;
}

function sectionName(section) {
  const names = {
    model: () => t("Model"), data: () => t("Data"), optimizer: () => t("Optimizer"), schedule: () => t("Learning rate"), run: () => t("Run"), launch: () => t("Processes"),
    checkpoint: () => t("Checkpoints"), report: () => t("Report"), track: () => t("Trackers"), playground: () => t("This machine"),
  };
  return names[section.name]?.() ?? section.name.replaceAll("_", " ");
}

function rangeOf({ minimum, maximum, exclusive_minimum: isAbove, exclusive_maximum: isBelow }) {
  const bound = (of, sign, isStrict) => (of === null || of === undefined ? null : `${isStrict ? sign : { ">": "≥", "<": "≤" }[sign]} ${Number.isInteger(of) ? of.toLocaleString("en") : shownValue(of)}`);
  return [bound(minimum, ">", isAbove), bound(maximum, "<", isBelow)].filter(Boolean).join(", ");
}

/** Return what was typed as a setting's value; what is no number is sent as it is, and the server says why not. */
function parsed(setting, text) {
  if (text === "") return undefined;
  if (/^(none|null)$/i.test(text)) return null;
  if (setting.type === "integer" || setting.type === "number") {
    const number = Number(text);
    return Number.isFinite(number) && (setting.type === "number" || Number.isInteger(number)) ? number : text;
  }
  return setting.type === "list" ? text.split(/[,，]/).map((one) => one.trim()).filter(Boolean) : text;
}

function textOf(of) {
  if (of === null) return "none";
  return Array.isArray(of) ? of.join(", ") : String(of);
}

const dataName = (of) => String((Array.isArray(of) ? of[0] : of) ?? "").split("/").pop();

function freshKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function keptDraft() {
  try {
    return JSON.parse(sessionStorage.getItem(DRAFT)) ?? {};
  } catch {
    return {};
  }
}
