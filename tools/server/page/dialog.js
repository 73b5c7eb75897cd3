// Dialogs: the browser's own, so that the keyboard stays inside and Escape closes them.

import { announce, el, fill, freshId } from "./dom.js";
import { t } from "./language.js";

/**
 * Ask before something is done; the dialog stays open, with the server's line, where it was refused.
 *
 * @param {{title: string, content?: Node[], action: string, isBad?: boolean, act: (form: FormData) => Promise<void>}} how
 */
export function ask({ title, content = [], action, isBad = false, act }) {
  const heading = freshId("title");
  const fault = el("p.fault", { role: "alert", hidden: true });
  const button = el(isBad ? "button.bad" : "button.primary", { type: "submit" }, action);
  const before = document.activeElement;
  const dialog = el("dialog", { "aria-labelledby": heading });
  const send = async (event) => {
    event.preventDefault();
    button.disabled = true;
    fault.hidden = true;
    try {
      await act(new FormData(event.target));
      dialog.close();
    } catch (error) {
      fault.hidden = false;
      fault.textContent = error.line ?? String(error);
    } finally {
      button.disabled = false;
    }
  };
  fill(dialog, el("form", { onsubmit: send }, el("h2", { id: heading }, title), content, fault,
    el("div.row.end", {}, el("button", { type: "button", onclick: () => dialog.close() }, t("Cancel")), button)));
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** Do something, and show the server's line where it was refused. */
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    if (error.name !== "AbortError") announce(error.line ?? String(error), "bad");
    return null;
  }
}

/** Return a problem as an element: its line, and the remedy where the line does not have it. */
export function faultOf(problem) {
  const { message, detail, remedy } = problem;
  const line = message ?? detail;
  return el("p.fault", { role: "alert" }, line,
    remedy && !line.includes(remedy) ? [" ", el("span.remedy", {}, remedy)] : null);
}
