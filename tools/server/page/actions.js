// Everything that changes runs, each asked for by a dialog or a button of several views.

import { call, ofRun, post, put } from "./api.js";
import { ask, attempt } from "./dialog.js";
import { announce, el } from "./dom.js";
import { count } from "./format.js";
import { t } from "./language.js";

/** Ask for tags, and set them on all of the runs. */
export function askTags(runs, done) {
  const shared = runs.length === 1 ? runs[0].tags : [];
  const input = el("input", { name: "tags", value: shared.join(", "), autocomplete: "off", placeholder: t("baseline, paper") });
  ask({
    title: runs.length === 1 ? t("Tags of {name}", { name: runs[0].name }) : t("Add tags to {count} runs", { count: runs.length }),
    content: [el("label.field", {}, el("span.label", {}, t("Tags, with commas between them")), input)],
    action: t("Save"),
    act: async (form) => {
      const given = String(form.get("tags")).split(/[,，]/).map((tag) => tag.trim()).filter(Boolean);
      for (const run of runs) {
        const tags = runs.length === 1 ? given : [...new Set([...run.tags, ...given])];
        await put(ofRun(run.id, "tags"), { tags });
      }
      done?.();
    },
  });
}

/** Ask for a run's note. */
export function askNote(run, done) {
  const text = el("textarea", { name: "note", rows: 5, value: run.note ?? "" });
  ask({
    title: t("Note on {name}", { name: run.name }),
    content: [el("label.field", {}, el("span.label", {}, t("Note")), text)],
    action: t("Save"),
    act: async (form) => {
      await put(ofRun(run.id, "note"), { note: String(form.get("note")) });
      done?.();
    },
  });
}

/** Put runs away, or bring them back. */
export async function archive(runs, isArchived, done) {
  await attempt(async () => {
    for (const run of runs) await put(ofRun(run.id, "archive"), { archived: isArchived });
    announce(isArchived ? t("{count} archived", { count: runs.length }) : t("{count} brought back", { count: runs.length }), "good");
    done?.();
  });
}

/** Ask whether runs are deleted, and with their files or from the list alone. */
export function askDelete(runs, done) {
  const names = runs.slice(0, 8).map((run) => el("li", {}, run.name));
  if (runs.length > 8) names.push(el("li", {}, t("and {count} more", { count: runs.length - 8 })));
  ask({
    title: runs.length === 1 ? t("Delete this run?") : t("Delete {count} runs?", { count: runs.length }),
    content: [
      el("ul", {}, names),
      el("p", {}, t("Checkpoints, record and model are deleted from the disk. This cannot be undone. What is running is refused.")),
      el("label.inline", {}, el("input", { type: "checkbox", name: "sure", required: true }), t("Delete the files")),
    ],
    action: t("Delete"),
    isBad: true,
    act: async () => {
      for (const run of runs) await call("DELETE", `${ofRun(run.id)}?files=true`);
      announce(t("{count} deleted", { count: runs.length }), "good");
      done?.();
    },
  });
}

/** Ask whether a run is stopped. */
export function askStop(run, done) {
  ask({
    title: t("Stop {name}?", { name: run.name }),
    content: [
      el("p", {}, t("It saves a checkpoint and ends; it can be resumed exactly where it stopped.")),
      el("label.inline", {}, el("input", { type: "checkbox", name: "now" }), t("At once, without saving: what was trained since the last checkpoint is lost")),
    ],
    action: t("Stop"),
    isBad: true,
    act: async (form) => {
      await post(ofRun(run.id, "stop"), form.get("now") ? { at_once: true } : {});
      done?.();
    },
  });
}

/** Ask whether a run goes on from one of its checkpoints, and say what becomes of what came after it. */
export function askResumeFrom(run, checkpoint, later, done) {
  ask({
    title: t("Resume {name} from step {step}?", { name: run.name, step: count(checkpoint.step) }),
    content: [
      el("p", {}, t("Its record goes back to this step, and training goes on from there.")),
      later.length ? el("p", {}, t("What came later is set aside in the run's directory, and can be gone on with from there: {names}", { names: later.map(({ name }) => name).join(", ") })) : null,
    ],
    action: t("Resume"),
    act: async () => {
      await post(ofRun(run.id, "resume"), { checkpoint: checkpoint.id });
      announce(t("{name} is resumed", { name: run.name }), "good");
      done?.();
    },
  });
}

/** Resume a run from its newest checkpoint. */
export const resume = (run, done) =>
  attempt(async () => {
    await post(ofRun(run.id, "resume"));
    announce(t("{name} is resumed", { name: run.name }), "good");
    done?.();
  });
