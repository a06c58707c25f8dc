// What happened in the last 24 hours.

import { button, el, keyed, setShape, shape, show, text } from "/dom.js";
import { clock, count, number, span } from "/words.js";
import { identity, model, now } from "/model.js";

const PAGE = 100;

// The shape of the state that a generation came to by it.
const SHAPES = {
  started: "starting",
  ramped: "ready",
  rolled: "active",
  rolled_back: "active",
  promoted: "active",
  aborted: "detached",
  detached: "detached",
  retiring: "retiring",
  retired: "retired",
  abandoned: "retired",
  failed: "failed",
};

/**
 * The section with the events.
 * @returns {{root: HTMLElement, update: () => void}}
 */
export function eventList() {
  let limit = PAGE;
  const again = () => {
    limit = PAGE;
    update();
  };
  const services = el(
    "select",
    { id: "events-service", onchange: again },
    el("option", { value: "", text: "All services" }),
  );
  const trouble = el("input", { type: "checkbox", id: "events-trouble", onchange: again });
  const shown = el("p", { class: "shown" });
  const list = el("ol", { class: "event-list" });
  const none = el("p", { class: "soft" });
  const more = button(
    "Show more",
    () => {
      limit += PAGE;
      update();
    },
    "plain",
  );
  const root = el(
    "section",
    { class: "events", "aria-labelledby": "events" },
    el(
      "header",
      {},
      el("h2", { id: "events", tabindex: "-1", text: "Last 24 hours" }),
      el("div", { class: "filter" }, el("label", { for: "events-service", text: "Service" }), services),
      el("div", { class: "filter" }, trouble, el("label", { for: "events-trouble", text: "Trouble only" })),
      shown,
    ),
    list,
    none,
    el("p", {}, more),
  );

  const update = () => {
    const names = [
      ...new Set([...model.services.keys(), ...model.events.map(({ service }) => service).filter(Boolean)]),
    ];
    const options = ["", ...names];
    if (
      services.options.length !== options.length ||
      options.some((name, index) => services.options[index].value !== name)
    ) {
      const chosen = services.value;
      services.replaceChildren(
        ...options.map((name) => el("option", { value: name, text: name === "" ? "All services" : name })),
      );
      services.value = options.includes(chosen) ? chosen : "";
    }
    const day = now() - 86400_000;
    const wanted = model.events.filter(
      (event) =>
        Date.parse(event.at) > day &&
        (services.value === "" || event.service === services.value) &&
        (!trouble.checked || event.trouble),
    );
    const part = wanted.slice(0, limit);
    keyed(list, part, identity, (event) => new Entry(event));
    text(
      shown,
      part.length < wanted.length
        ? `${number(part.length)} of ${count(wanted.length, "event")}`
        : count(wanted.length, "event"),
    );
    show(none, wanted.length === 0);
    text(none, trouble.checked ? "No trouble." : "Nothing happened.");
    show(more, part.length < wanted.length);
  };
  return { root, update };
}

class Entry {
  constructor(event) {
    this.at = Date.parse(event.at);
    this.time = el("time", { datetime: event.at });
    this.ago = el("span", { class: "soft" });
    const mark = shape("event");
    const icon = SHAPES[event.kind];
    setShape(mark, event.trouble ? "trouble" : (icon ?? "event"));
    this.root = el(
      "li",
      { "data-trouble": event.trouble === true },
      mark,
      el("span", { class: "when" }, this.time, " ", this.ago),
      el(
        "span",
        { class: "what" },
        event.trouble ? el("span", { class: "unseen", text: "Trouble: " }) : null,
        event.text,
      ),
    );
  }

  update() {
    text(this.time, clock(this.at, now(), true));
    text(this.ago, `${span((now() - this.at) / 1000)} ago`);
  }
}
