// A run's whole loss curve, as wide as a word.

import { svg } from "./dom.js";

const [WIDTH, HEIGHT, MARGIN] = [120, 32, 3];

/**
 * Return a curve as SVG, on a logarithmic scale where all values are positive.
 *
 * @param {(number|null)[]} values null: not finite, a gap.
 * @param {string} label for screen readers.
 */
export function sparkline(values, label) {
  const known = values.filter((value) => typeof value === "number");
  const scale = known.length && Math.min(...known) > 0 ? Math.log : (value) => value;
  const [low, high] = [scale(Math.min(...known)), scale(Math.max(...known))];
  const x = (n) => MARGIN + ((WIDTH - 2 * MARGIN) * n) / Math.max(1, values.length - 1);
  const y = (value) => MARGIN + (HEIGHT - 2 * MARGIN) * (high === low ? 0.5 : (high - scale(value)) / (high - low));
  let path = "";
  let isOpen = false;
  values.forEach((value, n) => {
    if (typeof value !== "number") isOpen = false;
    else {
      path += `${isOpen ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}`;
      isOpen = true;
    }
  });
  const last = values.length - 1;
  return svg(
    "svg.sparkline",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
    svg("path", { d: path || "M0 0" }),
    typeof values[last] === "number" ? svg("path.end", { d: `M${x(last).toFixed(1)} ${y(values[last]).toFixed(1)}h0` }) : null,
  );
}
