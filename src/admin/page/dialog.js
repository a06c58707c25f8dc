// Dialogs: what an act costs comes first, and stays true while the dialog is open.

import { attr, button, el, rich, show, text } from "/dom.js";
import { model, onChange } from "/model.js";

function frame(title) {
  const id = `dialog-${Math.random().toString(36).slice(2)}`;
  const dialog = el("dialog", { "aria-labelledby": id }, el("h2", { id, text: title }));
  const opener = document.activeElement;
  const place = opener?.closest("section, main, header")?.querySelector("h2, h1");
  dialog.addEventListener("close", () => {
    dialog.remove();
    // The button may be gone with what it was there for; its section is still a good place to go on from.
    if (!opener?.isConnected || opener.closest("[hidden]")) place?.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  return dialog;
}

/**
 * A dialog that only tells something.
 * @param {string} title its heading
 * @param {...Node} content what it tells
 * @returns {HTMLDialogElement} the open dialog
 */
export function tell(title, ...content) {
  const dialog = frame(title);
  const close = button("Close", () => dialog.close(), "plain");
  dialog.append(...content, el("div", { class: "choices" }, close));
  dialog.showModal();
  close.focus();
  return dialog;
}

/**
 * Asks before an act, does it, and says what came of it.
 * @param {object} question what to ask
 * @param {string} question.title the act as a question or a name
 * @param {() => {say: Array<Array<string|[string]>>, weight?: number, stop?: string, wait?: boolean}} question.facts
 *   what the act does, in sentences for `rich`, the cost first. `weight` is how much it ends. `stop` says why it cannot be
 *   done. With `wait` that is not known yet. Called again with every change.
 * @param {string|(() => string)} question.confirm names the act
 * @param {boolean} [question.danger] whether it may end something that people use
 * @param {Node[]} [question.more] what is shown below the sentences
 * @param {(agreed: boolean) => Promise<{changes: string[]}>} question.act does it; `agreed`: the operator has seen that it ends something
 * @param {(done: {changes: string[]}) => void} [question.done] called after it was done
 * @returns {{dialog: HTMLDialogElement, refresh: () => void}} the open dialog, and what draws it anew
 */
export function ask({ title, facts, confirm, danger = false, more = [], act, done }) {
  const dialog = frame(title);
  const sentences = el("div", { class: "cost" });
  const old = el("p", { class: "notice", text: "The connection is lost: these counts are old." });
  const outcome = el("div", { class: "outcome", role: "status" });
  const cancel = button("Cancel", () => dialog.close(), "plain");
  const sure = button("", () => run(), danger ? "danger" : "");
  dialog.append(old, sentences, ...more, outcome, el("div", { class: "choices" }, cancel, sure));

  let agreed = 0;
  const refresh = () => {
    // What was agreed to stays as it is while it is being done.
    if (dialog.dataset.busy !== undefined) return;
    const { say, weight = 0, stop, wait = false } = facts();
    const heavier = danger && weight > 0 && agreed === 0;
    agreed = weight;
    const lines = stop === undefined ? say : [[stop]];
    while (sentences.children.length > lines.length) sentences.lastChild.remove();
    while (sentences.children.length < lines.length) sentences.append(el("p"));
    lines.forEach((parts, index) => rich(sentences.children[index], parts));
    attr(sentences, "data-heavy", danger && weight > 0);
    text(sure, typeof confirm === "string" ? confirm : confirm());
    const hadFocus = document.activeElement === sure;
    sure.disabled = wait;
    show(sure, stop === undefined);
    text(cancel, stop === undefined ? "Cancel" : "Close");
    if (hadFocus && (sure.hidden || sure.disabled || heavier)) cancel.focus();
    show(old, model.old);
  };
  const leave = onChange(refresh);
  dialog.addEventListener("close", leave);
  dialog.addEventListener("cancel", (event) => {
    if (dialog.dataset.busy !== undefined) event.preventDefault();
  });

  const run = async () => {
    dialog.dataset.busy = "";
    sure.disabled = true;
    cancel.disabled = true;
    outcome.replaceChildren(el("p", { text: "Asking the gateway …" }));
    try {
      const answer = await act(agreed > 0);
      leave();
      const lines = answer.changes.length > 0 ? answer.changes : ["It was so already; nothing has changed."];
      outcome.replaceChildren(...lines.map((sentence) => el("p", { class: "well", text: sentence })));
      show(sentences, false);
      more.forEach((node) => node.remove());
      show(old, false);
      show(sure, false);
      text(cancel, "Close");
      done?.(answer);
    } catch (problem) {
      outcome.replaceChildren(...failure(problem, true));
    }
    delete dialog.dataset.busy;
    cancel.disabled = false;
    if (!sure.hidden) refresh();
    cancel.focus();
  };

  refresh();
  dialog.showModal();
  ((danger && agreed > 0) || sure.hidden || sure.disabled ? cancel : sure).focus();
  return { dialog, refresh };
}

/**
 * A problem as nodes: its sentence, and its report where there is one.
 * @param {Error & {report?: string, status?: number}} problem what was thrown
 * @param {boolean} [act] whether it was to change something, rather than to tell
 * @returns {Node[]} to be shown
 */
export function failure(problem, act = false) {
  const unknown = act ? " Whether it has done this is not known: look at the page when it is live again." : "";
  const sentence = problem.status === undefined ? `The gateway does not answer.${unknown}` : problem.message;
  const nodes = [el("p", { class: "trouble", text: sentence })];
  if (problem.report)
    nodes.push(
      el("pre", { class: "report", tabindex: "0", role: "region", "aria-label": "Report", text: problem.report }),
    );
  return nodes;
}
