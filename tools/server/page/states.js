// States of a run, as words and with a colour of their own.

import { el } from "./dom.js";
import { chosenLanguage, t } from "./language.js";

const WORDS = {
  queued: () => t("queued"),
  starting: () => t("starting"),
  running: () => t("running"),
  stopping: () => t("stopping"),
  stopped: () => t("stopped"),
  finished: () => t("finished"),
  failed: () => t("failed"),
  lost: () => t("lost"),
  stalled: () => t("stalled"),
  unreadable: () => t("unreadable"),
};

/** States in the order in which a filter shows them. */
export const STATES = ["running", "queued", "finished", "stopped", "failed", "lost"];

/** States of a run that a process works on, or will. */
const AT_WORK = new Set(["queued", "starting", "running", "stopping", "stalled"]);

export const isAtWork = (state) => AT_WORK.has(state);

/** Return a state's name. */
export const stateName = (state) => (WORDS[state] ? WORDS[state]() : String(state));

/** Return a state as a sign with its colour. */
export const stateSign = (state) => el("span.state", { class: WORDS[state] ? state : "" }, stateName(state));

/** Return what an alert says, in the page's language. */
export const alertText = (alert) => (chosenLanguage() === "zh" ? alert.message_zh : null) ?? alert.message;

/** Return a bar that shows how much of a run is done. */
export function progressBar(run) {
  const share = Math.min(1, Math.max(0, run.progress ?? 0));
  return el("div.bar", {
    class: run.state, role: "progressbar", "aria-label": t("done"), "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(100 * share), vars: { share: share.toFixed(4) },
  }, el("i"));
}
