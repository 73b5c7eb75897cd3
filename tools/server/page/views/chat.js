// A talk with a finished model: each answer is shown while it is written.

import { Problem, streamed } from "../api.js";
import { el, fill, icon } from "../dom.js";
import { t } from "../language.js";

/** Reasons for which an answer ends before the model has ended it. */
const CUT = new Set(["length", "context"]);

/** Show the view in a tab of a run. */
export function showChat(panel, run) {
  const messages = [];
  let asked = null;
  const talk = el("div.talk", { role: "log", "aria-live": "polite", "aria-label": t("Conversation"), tabindex: "0" });
  const question = el("textarea", { id: "question", rows: 2, "aria-label": t("Message"), placeholder: t("Ask the model; Enter sends, Shift+Enter begins a line"), onkeydown: key });
  const temperature = el("input", { type: "range", min: 0, max: 2, step: 0.1, value: 0, id: "temperature", oninput: () => { warmth.textContent = Number(temperature.value).toFixed(1); } });
  const warmth = el("output", { for: "temperature" }, "0.0");
  const longest = el("input", { type: "number", min: 1, max: 4096, value: 128, size: 5, id: "longest" });
  const send = el("button.primary", { type: "submit" }, icon("play"), t("Send"));
  const end = el("button", { type: "button", hidden: true, onclick: () => asked?.abort() }, icon("stop"), t("End"));
  const status = el("p.faint", { role: "status" });
  fill(panel, el("form.chat", { onsubmit: submit }, talk, status, el("div.ask", {}, question, send, end), el("div.row", {},
    el("label.inline", {}, t("temperature"), temperature, warmth), el("label.inline", {}, t("longest answer in tokens"), longest),
    el("button.quiet", { type: "button", onclick: begin }, t("New conversation")))));
  begin();

  function begin() {
    asked?.abort();
    messages.length = 0;
    fill(talk, el("p.faint", {}, t("The model answers as it was trained. It is loaded at the first question, and let go when nobody asks.")));
  }

  function key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  }

  async function submit(event) {
    event.preventDefault();
    const text = question.value.trim();
    if (!text || asked) return;
    if (!messages.length) fill(talk);
    messages.push({ role: "user", content: text });
    const own = say("user", text);
    const answer = say("assistant", "");
    answer.classList.add("busy");
    question.value = "";
    [send.hidden, end.hidden] = [true, false];
    asked = new AbortController();
    let reason = null;
    try {
      const body = { messages, temperature: Number(temperature.value), max_new_tokens: Number(longest.value) };
      for await (const { name, data } of streamed(`/api/chat/${encodeURIComponent(run.id)}`, body, asked.signal)) {
        if (name === "state") status.textContent = data.status === "loading" ? t("The model is being loaded …") : data.model ?? "";
        if (name === "text") answer.append(data.text);
        if (name === "end") reason = data.reason;
        if (name === "error") throw new Problem(0, data);
        talk.scrollTop = talk.scrollHeight;
      }
      messages.push({ role: "assistant", content: answer.textContent });
      if (CUT.has(reason)) answer.append(el("small", {}, t("cut: the answer is as long as it may be")));
    } catch (error) {
      if (error.name === "AbortError") messages.push({ role: "assistant", content: answer.textContent });
      else {
        messages.pop();
        answer.remove();
        own.after(el("p.fault", { role: "alert" }, error.line ?? String(error)));
        question.value = text;
      }
    } finally {
      asked = null;
      answer.classList.remove("busy");
      [send.hidden, end.hidden] = [false, true];
      question.focus();
      talk.scrollTop = talk.scrollHeight;
    }
  }

  function say(role, text) {
    const said = el("div.said", { class: role }, text);
    talk.append(said);
    talk.scrollTop = talk.scrollHeight;
    return said;
  }

  return { close: () => asked?.abort() };
}
