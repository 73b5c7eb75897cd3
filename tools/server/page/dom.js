// Elements made without markup: whatever a server sends becomes a text node or an attribute, never HTML.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "indeterminate", "open", "htmlFor"]);

/**
 * Make an element: `el("button.primary", {onclick: save}, "Save")`.
 *
 * @param {string} spec tag and classes.
 * @param {object} [attributes] `on…` are listeners, null and false are left out, `vars` are CSS custom properties.
 * @param {...(Node|string|number|null|Array)} children
 * @returns {HTMLElement}
 */
export function el(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  return filled(document.createElement(tag), classes, attributes, children);
}

/** Make an SVG element, as `el` does. */
export function svg(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  return filled(document.createElementNS(SVG, tag), classes, attributes, children);
}

function filled(node, classes, attributes, children) {
  if (classes.length) node.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "vars") for (const [key, of] of Object.entries(value)) node.style.setProperty(`--${key}`, of);
    else if (name === "class") node.classList.add(...value.split(" ").filter(Boolean));
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...flat(children));
  return node;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false).map(
    (child) => (child instanceof Node ? child : document.createTextNode(String(child))),
  );
}

/** Put other children into an element. */
export function fill(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

const PATHS = {
  runs: "M3 17l5-6 4 3 5-8 4 4M3 21h18",
  compare: "M4 5c5 0 5 14 10 14h6M4 19c5 0 5-14 10-14h6",
  add: "M12 5v14M5 12h14",
  machine: "M5 5h14v14H5zM9 9h6v6H9zM9 2v3M15 2v3M9 19v3M15 19v3M2 9h3M2 15h3M19 9h3M19 15h3",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  moon: "M20 14.5A8 8 0 019.5 4a8 8 0 1010.5 10.5z",
  auto: "M12 3a9 9 0 100 18 9 9 0 000-18zM12 3v18M12 7h6M12 12h9M12 17h6",
  stop: "M6 6h12v12H6z",
  play: "M7 4l13 8-13 8z",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  tag: "M3 12V4h8l10 10-8 7zM7.5 8.5h.01",
  archive: "M3 4h18v5H3zM5 9v11h14V9M10 13h4",
  report: "M6 2h9l4 4v16H6zM14 2v5h5M9 12h7M9 16h7",
  download: "M12 3v12M7 11l5 5 5-5M4 20h16",
  search: "M10.5 4a6.5 6.5 0 100 13 6.5 6.5 0 000-13zM15.5 15.5L21 21",
  close: "M5 5l14 14M19 5L5 19",
  up: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  note: "M4 20h4L20 8l-4-4L4 16z",
  reset: "M4 12a8 8 0 108-8H6M9 1L6 4l3 3",
  copy: "M8 8h12v12H8zM16 8V4H4v12h4",
};

/** Make a line icon; it is decoration, the text beside it or `aria-label` says what it means. */
export function icon(name) {
  return svg("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, svg("path", { d: PATHS[name] }));
}

/** Say something to a screen reader, and show it for a moment. */
export function announce(text, kind = "info") {
  const place = document.getElementById("notices");
  const notice = el("div.notice", { class: kind }, text);
  place.append(notice);
  setTimeout(() => notice.remove(), kind === "bad" ? 9000 : 4000);
}

/** Return a function that runs `action` once, `wait` milliseconds after the last call. */
export function debounced(action, wait) {
  let timer = 0;
  const later = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), wait);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** Return a function that runs `action` at once, and then at most every `wait` milliseconds; the last call counts. */
export function throttled(action, wait) {
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    timer = 0;
    last = performance.now();
    action();
  };
  const often = () => {
    if (!timer) timer = setTimeout(run, Math.max(0, last + wait - performance.now()));
  };
  often.cancel = () => clearTimeout(timer);
  return often;
}

let count = 0;

/** Return an id that no other element of the page has. */
export function freshId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}
