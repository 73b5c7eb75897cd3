// The page: its head, its theme and language, and the view that the address names.

import { connection } from "./api.js";
import { el, fill, icon } from "./dom.js";
import { chooseLanguage, chosenLanguage, nameLanguage, t } from "./language.js";

const THEME = "theme";
const THEMES = ["auto", "dark", "light"];
const prefersLight = matchMedia("(prefers-color-scheme: light)");
const main = document.getElementById("main");
let shown = null;
let navigations = 0;

/** Views by name, each read when it is first shown: the table of runs does not wait for the charts. */
const VIEWS = {
  runs: async () => (await import("./views/runs.js")).showRuns,
  run: async () => (await import("./views/run.js")).showRun,
  compare: async () => (await import("./views/compare.js")).showCompare,
  new: async () => (await import("./views/new_run.js")).showNewRun,
  machine: async () => (await import("./views/machine.js")).showMachine,
};

/** Return the view that an address names, with its parameters. */
function routeOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [place, id, part] = path.split("/").map(decodeURIComponent);
  const parameters = Object.fromEntries(new URLSearchParams(query));
  if (place === "runs" && id) return { place: "runs", view: "run", parameters: { ...parameters, id, part } };
  const view = place !== "run" && Object.hasOwn(VIEWS, place) ? place : "runs";
  return { place: view, view, parameters };
}

/** Show what the address names. */
async function navigate({ isFirst = false } = {}) {
  const { place, view, parameters } = routeOf(location.hash);
  if (shown?.change && shown.view === view && shown.language === chosenLanguage()) {
    if (shown.change(parameters)) return; // the same view takes the change itself
  }
  shown?.close?.();
  shown = null;
  main.replaceChildren();
  drawHead(place);
  const number = ++navigations;
  const show = await VIEWS[view]();
  if (number !== navigations) return; // somebody has gone on meanwhile
  shown = { ...show(main, parameters), view, language: chosenLanguage() };
  document.title = `${shown.title} · APT`;
  if (!isFirst) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function drawHead(place) {
  const links = [
    ["runs", "#/runs", "runs", t("Runs")],
    ["compare", "#/compare", "compare", t("Compare")],
    ["new", "#/new", "add", t("New run")],
    ["machine", "#/machine", "machine", t("Machine")],
  ];
  const isChinese = chosenLanguage() === "zh";
  const theme = chosenTheme();
  fill(
    document.getElementById("head"),
    el("a.brand", { href: "#/runs", "aria-label": t("APT, all runs") }, "APT"),
    el("nav.main", { "aria-label": t("Views") }, links.map(([name, href, sign, label]) =>
      el("a", { href, "aria-current": name === place ? "page" : null }, icon(sign), el("span", {}, label)))),
    el("span.spread"),
    connectionSign(),
    el("button.quiet", { id: "language", lang: isChinese ? "en" : "zh-CN", onclick: switchLanguage }, isChinese ? "English" : "中文"),
    el("button.quiet", { id: "theme", onclick: switchTheme, title: themeName(theme), "aria-label": themeName(theme) },
      icon({ auto: "auto", dark: "moon", light: "sun" }[theme])),
  );
  document.getElementById("skip").textContent = t("Skip to the content");
}

function connectionSign() {
  const sign = el("span.connection", { role: "status" });
  const words = {
    live: () => t("live"), connecting: () => t("connecting …"), idle: () => "",
    login: () => t("logged out: open the link that the server's terminal shows"),
  };
  const set = (state) => {
    sign.className = `connection ${state}`;
    sign.hidden = state === "idle";
    sign.textContent = words[state]();
  };
  connection.listeners.clear();
  connection.listeners.add(set);
  set(connection.state);
  return sign;
}

// -- theme and language ----------------------------------------------------------------------------------------------

function chosenTheme() {
  const kept = localStorage.getItem(THEME);
  return THEMES.includes(kept) ? kept : "auto";
}

function themeName(theme) {
  return { auto: t("Colours: as the system"), dark: t("Colours: dark"), light: t("Colours: light") }[theme];
}

function applyTheme() {
  const theme = chosenTheme();
  const name = theme === "auto" ? (prefersLight.matches ? "light" : "dark") : theme;
  document.documentElement.dataset.theme = name;
}

function switchTheme() {
  localStorage.setItem(THEME, THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length]);
  recolour();
  drawHead(routeOf(location.hash).place);
  document.getElementById("theme").focus();
}

function recolour() {
  applyTheme();
  for (const chart of document.querySelectorAll("figure.chart")) chart.chart.redraw();
}

function switchLanguage() {
  chooseLanguage(chosenLanguage() === "zh" ? "en" : "zh");
  navigate({ isFirst: true }); // the head is drawn at once, the view a moment later
  document.getElementById("language").focus();
}

applyTheme();
nameLanguage();
prefersLight.addEventListener("change", recolour);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  main.focus();
});
addEventListener("hashchange", () => navigate());
navigate({ isFirst: true });
