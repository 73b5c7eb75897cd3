// Numbers, times and sizes as people read them. An unknown figure is a dash, never a zero.

import { chosenLanguage, t } from "./language.js";

export const UNKNOWN = "–";
export const NOT_FINITE = "NaN";

const locale = () => (chosenLanguage() === "zh" ? "zh-CN" : "en");
const isKnown = (value) => typeof value === "number" && Number.isFinite(value);

/** Return a figure with four digits that count. */
export function figure(value) {
  if (!isKnown(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  if (Number.isInteger(value)) return value.toLocaleString(locale());
  return Number(value.toPrecision(4)).toLocaleString(locale(), { maximumSignificantDigits: 4 });
}

/** Return a figure of a run's row, which says by name which of its figures are not finite. */
export function figureOf(run, key, text = figure) {
  const of = key in run ? run[key] : run.metrics?.[key];
  return (run.nonfinite ?? []).includes(key) ? NOT_FINITE : text(of);
}

/** Return a count: 1,234, or 1.23M. */
export function count(value) {
  if (!isKnown(value)) return UNKNOWN;
  for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) return `${(value / (unit === "k" ? 1e3 : size)).toPrecision(3)}${unit}`;
  }
  return Math.round(value).toLocaleString(locale());
}

/** Return a share as a percentage. */
export const percent = (value) => (isKnown(value) ? `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)}%` : UNKNOWN);

/** Return a span of seconds: 3 min 20 s. */
export function duration(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor((whole % 86400) / 3600), Math.floor((whole % 3600) / 60)];
  if (days) return t("{days} d {hours} h", { days, hours });
  if (hours) return t("{hours} h {minutes} min", { hours, minutes });
  if (minutes) return t("{minutes} min {seconds} s", { minutes, seconds: whole % 60 });
  return `${whole} s`;
}

/** Return a number of bytes: 12.3 MB. */
export function bytes(value) {
  if (!isKnown(value)) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toPrecision(3)} ${units[unit]}`;
}

/** Return a moment: the time of day today, else with its date. */
export function moment(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  const then = new Date(seconds * 1000);
  const isToday = then.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", hour12: false };
  return isToday
    ? then.toLocaleTimeString(locale(), time)
    : then.toLocaleString(locale(), { year: "numeric", month: "short", day: "numeric", ...time });
}

/** Return any setting's value as text. */
export function value(of) {
  if (of === null || of === undefined) return t("none");
  if (typeof of === "number") return Number.isInteger(of) ? String(of) : String(Number(of.toPrecision(8)));
  if (Array.isArray(of) && of.length && of.every((one) => typeof one !== "object")) return of.join(", ");
  return typeof of === "object" ? JSON.stringify(of) : String(of);
}
