// The page's language: chosen by the user and kept, else the browser's.

import { CHINESE } from "./texts.js";

const KEY = "language";
let language = localStorage.getItem(KEY) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

/** Return `en` or `zh`. */
export const chosenLanguage = () => language;

/** Change the language and keep it. */
export function chooseLanguage(chosen) {
  language = chosen;
  localStorage.setItem(KEY, chosen);
  nameLanguage();
}

/** Say in the document which language it is in, for screen readers and fonts. */
export function nameLanguage() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

/**
 * Return a text in the chosen language.
 *
 * @param {string} english with fields in braces, a literal: a test looks each up in the table of Chinese texts.
 * @param {object} [values] what the fields are.
 */
export function t(english, values = {}) {
  const text = language === "zh" ? CHINESE[english] ?? english : english;
  return text.replace(/\{(\w+)\}/g, (field, name) => (name in values ? String(values[name]) : field));
}
