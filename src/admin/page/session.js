// Finds one session by its id and ends it. The id stays in its field and in the request's body.

import { call, path } from "/api.js";
import { button, el, text } from "/dom.js";
import { failure } from "/dialog.js";
import { clock, number, span } from "/words.js";
import { now } from "/model.js";
import * as acts from "/acts.js";

/**
 * The form of a service.
 * @param {string} service its name
 * @returns {HTMLElement} a disclosure with the form
 */
export function sessionForm(service) {
  const id = `find-${service}`;
  const input = el("input", {
    id,
    class: "secret",
    type: "text",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    required: true,
  });
  const reveal = button(
    "Show",
    () => {
      const hidden = input.classList.toggle("secret");
      text(reveal, hidden ? "Show" : "Hide");
      reveal.setAttribute("aria-pressed", String(!hidden));
    },
    "plain",
  );
  reveal.setAttribute("aria-label", "Show the id");
  reveal.setAttribute("aria-pressed", "false");
  const result = el("div", { class: "found", role: "status" });
  const find = async () => {
    const asked = input.value.trim();
    if (asked === "") return;
    result.replaceChildren(el("p", { text: "Looking …" }));
    try {
      const found = await call("POST", path("services", service, "sessions", "find"), { id: asked });
      result.replaceChildren(
        ...describe(found, () =>
          acts.endSession({ ...found, service }, asked, () => {
            input.value = "";
            result.replaceChildren(el("p", { text: "The session has ended." }));
          }),
        ),
      );
    } catch (problem) {
      result.replaceChildren(
        ...(problem.status === 404
          ? [el("p", { text: `No open session of ${service} has this id.` })]
          : failure(problem)),
      );
    }
  };
  const form = el(
    "form",
    {
      autocomplete: "off",
      onsubmit: (event) => {
        event.preventDefault();
        find();
      },
    },
    el("label", { for: id, text: "Its id, as the client sends it" }),
    el("div", { class: "row" }, input, reveal, el("button", { type: "submit", text: "Find" })),
    result,
  );
  return el("details", { class: "find" }, el("summary", { text: "Find a session" }), form);
}

function describe(found, end) {
  const name = `${found.service}@${found.generation}`;
  const facts = [
    ["Generation", name],
    ["Backend", found.backend],
    [
      "Opened",
      `${span((now() - Date.parse(found.opened_at)) / 1000)} ago, at ${clock(Date.parse(found.opened_at), now())}`,
    ],
    ["Idle for", span(found.idle_seconds)],
    ["Requests in flight", number(found.requests)],
    ["Seen", found.unconfirmed ? "once" : "more than once"],
    ...(found.ends_at ? [["Ends", `by ${clock(Date.parse(found.ends_at), now())} if it does not come back`]] : []),
  ];
  return [
    el("dl", {}, ...facts.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value })))),
    button("End session", end, "plain danger"),
  ];
}
