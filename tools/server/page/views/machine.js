// The machine: processors, memory, disk, GPUs, and the queue of what waits for them.

import { get, ofRun, post, withQuery } from "../api.js";
import { attempt, faultOf } from "../dialog.js";
import { el, fill, icon } from "../dom.js";
import { bytes, count, moment, percent } from "../format.js";
import { t } from "../language.js";
import { stateSign } from "../states.js";

const PERIOD = 2000;

/** Show the view. */
export function showMachine(root) {
  let isClosed = false;
  let timer = 0;
  const tiles = el("div.tiles", {}, el("p.empty", {}, t("Reading …")));
  const queue = el("section.panel.stack", { "aria-label": t("Queue") });
  root.append(el("h1", {}, t("Machine")), tiles, queue);

  async function read() {
    clearTimeout(timer);
    try {
      if (!document.hidden) {
        const [machine, waiting] = await Promise.all([get("/api/machine"), get(withQuery("/api/training/jobs", { state: "queued", sort: "started_at", limit: 100 }))]);
        if (isClosed) return;
        drawTiles(machine);
        drawQueue(machine.queue ?? {}, waiting.jobs);
      }
    } catch (error) {
      if (!isClosed) fill(tiles, el("div.panel", {}, faultOf(error)));
    }
    if (!isClosed) timer = setTimeout(read, PERIOD);
  }

  function drawTiles({ cpu_percent: busy, cores, memory = {}, disk = {}, gpus = [] }) {
    const used = disk.total !== undefined && disk.free !== undefined ? disk.total - disk.free : null;
    fill(tiles,
      tile("cpu", t("Processors"), busy === null || busy === undefined ? "–" : percent(busy / 100), (busy ?? 0) / 100, cores ? t("{count} cores", { count: cores }) : ""),
      tile("memory", t("Memory"), bytes(memory.used), memory.used / memory.total, t("of {total}", { total: bytes(memory.total) })),
      tile("disk", t("Disk"), t("{free} free", { free: bytes(disk.free) }), used / disk.total, t("of {total}", { total: bytes(disk.total) })),
      gpus.map((gpu, n) => tile(`gpu-${n}`, gpu.name, bytes(gpu.memory.used), gpu.memory.used / gpu.memory.total, [
        t("of {total}", { total: bytes(gpu.memory.total) }), known(gpu.percent, (of) => t("{share} busy", { share: percent(of / 100) })), known(gpu.celsius, (of) => `${of} °C`),
      ].filter(Boolean).join(" · "))),
      gpus.length ? null : el("section.panel.tile", {}, el("h2", {}, "GPU"), el("p.faint", {}, t("This machine has no GPU that can be used; runs train on the processors."))));
  }

  const known = (of, text) => (typeof of === "number" ? text(of) : null);

  function tile(name, title, big, share, more) {
    const part = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
    return el("section.panel.tile", { "data-tile": name }, el("h2", {}, title), el("div.big", {}, big),
      el("div.bar", { class: part > 0.9 && name !== "cpu" ? "failed" : "", role: "meter", "aria-label": title, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * part), vars: { share: part.toFixed(4) } }, el("i")),
      el("p.faint", {}, more));
  }

  function drawQueue({ slots = 0, used = 0, queued = 0 }, jobs) {
    const focused = document.activeElement?.dataset?.focus;
    const sorted = [...jobs].sort((a, b) => (a.job?.position ?? 0) - (b.job?.position ?? 0));
    fill(queue,
      el("div.row", {}, el("h2", {}, t("Queue")), el("div.slots", { role: "img", "aria-label": t("{used} of {slots} slots in use", { used, slots }) }, Array.from({ length: Math.min(slots, 64) }, (_, n) => el("span.slot", { class: n < used ? "used" : "" }))),
        el("span.faint", {}, t("{used} of {slots} slots in use", { used, slots }), " · ", t("{count} waiting", { count: count(queued) }))),
      sorted.length ? el("div.scroll", {}, el("table.cards", {}, el("thead", {}, el("tr", {}, [t("Place"), t("Run"), t("State"), t("Priority"), t("Submitted")].map((name) => el("th", { scope: "col" }, name)), el("th", {}, el("span.sr", {}, t("actions"))))),
        el("tbody", {}, sorted.map((run) => el("tr", {},
          el("td", { "data-label": t("Place") }, count(run.job?.position)), el("td.what", {}, el("a.name", { href: `#/runs/${run.id}` }, run.name)), el("td", { "data-label": t("State") }, stateSign(run.state)),
          el("td", { "data-label": t("Priority") }, String(run.job?.priority ?? 0)), el("td", { "data-label": t("Submitted") }, moment(run.job?.created_at)),
          el("td.wide", {}, el("div.row.end", {}, change(run, 1, "up", t("Raise the priority of {name}", { name: run.name })), change(run, -1, "down", t("Lower the priority of {name}", { name: run.name })))))))))
        : el("p.empty", {}, t("Nothing waits.")));
    if (focused) queue.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  const change = (run, step, sign, label) => el("button", {
    type: "button", "aria-label": label, "data-focus": `${sign}-${run.id}`,
    onclick: async () => { await attempt(() => post(ofRun(run.id, "priority"), { priority: (run.job?.priority ?? 0) + step })); read(); },
  }, icon(sign));

  read();
  return { title: t("Machine"), close() { isClosed = true; clearTimeout(timer); } };
}
