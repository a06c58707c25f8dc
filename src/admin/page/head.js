// The head of the page: the gateway itself, and what is wrong with it.

import { attr, button, draw, el, line, shape, show, text } from "/dom.js";
import { clock, count, number, span } from "/words.js";
import { model, now, since } from "/model.js";
import * as acts from "/acts.js";

/**
 * What is wrong with the gateway itself.
 * @param {object|null} gateway as it was last told
 * @returns {number} how many things
 */
export const gatewayTrouble = (gateway) =>
  gateway === null
    ? 0
    : [
        gateway.reload_error,
        gateway.durability,
        !gateway.durable && gateway.state_place !== "memory" && !gateway.durability,
      ].filter(Boolean).length;

/** @returns {SVGElement} the project's mark */
export function mark() {
  return draw(
    "svg",
    { class: "mark-sign", viewBox: "0 0 32 32", "aria-hidden": "true" },
    draw("path", {
      d: "M6 5v22M26 5v22M6 10h20",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": "3",
      "stroke-linecap": "round",
    }),
    draw("path", { class: "tide", d: "M10 17c2 0 2 1.5 4 1.5s2-1.5 4-1.5 2 1.5 4 1.5V27H10z" }),
  );
}

/**
 * The head of the page.
 * @param {HTMLElement} root the element that it fills
 * @param {{retry: () => void, help: () => void, leave: () => void}} acting what its buttons do
 * @returns {{notices: HTMLElement, update: () => void}} the notices belong at the top of the main part
 */
export function gatewayHead(root, acting) {
  const live = el("p", { class: "live" }, el("i", { "aria-hidden": "true" }), el("span"));
  const words = live.lastChild;
  const retry = button("Try now", acting.retry, "plain small");
  const facts = el("p", { class: "facts" });
  const file = el("p", { class: "file" });
  const figure = (noun) => {
    const value = el("b");
    const unit = el("span", { text: noun });
    return { value, unit, root: el("li", {}, value, unit) };
  };
  const sessions = figure("");
  const connections = figure("");
  const lost = figure("");
  root.replaceChildren(
    el("div", { class: "brand" }, mark(), el("h1", { text: "Tidegate" }), live, retry),
    el("div", { class: "process" }, facts, file),
    el("ul", { class: "figures" }, sessions.root, connections.root, lost.root),
    el(
      "div",
      { class: "buttons" },
      button("Reload", acts.reload, "plain"),
      button("Keys", acting.help, "plain"),
      button("Log out", acting.leave, "plain"),
    ),
  );

  const lostLine = el("p", { class: "notice old" });
  const report = el("pre", {
    class: "report",
    tabindex: "0",
    role: "region",
    "aria-label": "Report of the last reload",
  });
  const reload = el(
    "section",
    { class: "notice wrong", "aria-label": "Last reload" },
    el(
      "p",
      {},
      shape("trouble"),
      el("strong", { text: "The last reload changed nothing. The configuration in force is the one from before." }),
    ),
    report,
  );
  const durability = el("p", { class: "notice wrong" }, shape("trouble"), el("span"));
  const unsure = el("p", { class: "notice" });
  const recovered = el("p", { class: "notice" });
  const notices = el("div", { class: "notices" }, lostLine, reload, durability, unsure, recovered);

  const update = () => {
    const { gateway, old } = model;
    if (!gateway) return;
    attr(live, "data-old", old);
    text(words, old ? "Connection lost" : "Live");
    show(retry, old);
    const wait = Math.ceil((model.retry_at - Date.now()) / 1000);
    line(
      lostLine,
      old
        ? `Connection lost, trying again${wait > 0 ? ` in ${wait} s` : " …"}. What you see is old: it is from ${clock(model.heard, now(), true)}.`
        : "",
    );
    text(
      facts,
      `${gateway.state.replace("_", " ")} for ${span(since(gateway.started_at))}, version ${gateway.version}, process ${gateway.pid}`,
    );
    text(file, `${gateway.config_file}, loaded ${span(since(gateway.loaded_at))} ago`);
    text(sessions.value, number(gateway.sessions));
    text(sessions.unit, gateway.sessions === 1 ? "session" : "sessions");
    text(connections.value, number(gateway.connections));
    text(connections.unit, gateway.connections === 1 ? "connection" : "connections");
    text(lost.value, number(gateway.sessions_lost));
    text(lost.unit, "lost since start");
    attr(lost.root, "data-some", gateway.sessions_lost > 0);
    show(reload, gateway.reload_error !== undefined);
    text(report, gateway.reload_error ?? "");
    const memory = gateway.state_place === "memory";
    const worry =
      gateway.durability ?? (gateway.durable || memory ? "" : "A crash now would lose what is not written yet.");
    show(durability, worry !== "");
    text(durability.lastChild, worry);
    const until = gateway.unsure_until === undefined ? "" : `, until ${clock(Date.parse(gateway.unsure_until), now())}`;
    line(
      unsure,
      gateway.unsure
        ? `Sessions may be open that this process does not know: nothing is retired meanwhile${until}.`
        : "",
    );
    const gone = gateway.recovered?.lost ?? 0;
    line(
      recovered,
      gone > 0
        ? `The last start found ${count(gone, "session")} of the run before whose generation or backend was gone.`
        : "",
    );
  };
  return { notices, update };
}
