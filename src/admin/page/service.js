// One service: a sentence that says how it stands, its generations side by side, and what can be done with it.

import { attr, button, draw, el, keyed, line, rich, setShape, shape, show, size, text } from "/dom.js";
import { Column, faults, leaving, scaleOf } from "/column.js";
import { Details } from "/details.js";
import { sessionForm } from "/session.js";
import { LIVE, loadSpread, model, now, since } from "/model.js";
import { onScreen } from "/watch.js";
import { clock, count, list, number, span, sum } from "/words.js";
import * as acts from "/acts.js";

const FULL = 12;
const SPREAD = 10_000;
const narrow = matchMedia("(max-width: 44rem)");

/**
 * Sums a service up.
 * @param {object} service its overview
 * @returns {{leaving: object[], left: number, trouble: string[], empty?: number}} the generations that go away, the sessions
 *   on them, what is wrong, and in milliseconds when the last of them is empty if nobody comes back
 */
export function standing(service) {
  const away = service.generations.filter(leaving);
  const trouble = [];
  for (const generation of service.generations) {
    const name = `${service.name}@${generation.number}`;
    if (generation.state === "failed") trouble.push(`${name} failed`);
    else if (LIVE.has(generation.state) && generation.trouble) trouble.push(`${name} is in trouble`);
    if (LIVE.has(generation.state)) {
      const { unhealthy, ejected, unreachable } = generation.backends;
      const wrong = faults({ unhealthy, ejected, unreachable });
      if (wrong.length > 0) trouble.push(`${name}: ${list(wrong)}`);
    }
  }
  const spread = model.spread.get(service.name);
  const held = away.filter(({ sessions }) => sessions > 0);
  const times = held
    .map(({ number: one }) => spread?.get(one)?.empties_at)
    .filter(Boolean)
    .map(Date.parse);
  const empty = times.length === held.length && times.length > 0 ? Math.max(...times) : undefined;
  return { leaving: away, left: sum(away, "sessions"), trouble, empty };
}

/** The view of one service. */
export class Service {
  /** @param {string} name its name */
  constructor(name) {
    this.name = name;
    this.pinned = new Set();
    this.details = null;
    this.asked = 0;
    const id = `service-${name}`;

    this.sentence = el("p", { class: "sentence" });
    this.notes = el("ul", { class: "notes" });
    this.maintenance = el("p", { class: "flag" }, shape("paused"), el("span", { text: "Maintenance is on" }));
    this.orphan = el(
      "p",
      { class: "flag" },
      el("span", { text: "No longer in the file: serves its open sessions and nobody else" }),
    );

    this.roll = button(`Roll ${name}`, () => acts.roll(name));
    this.promote = button("", () => acts.promote(name, this.ready));
    this.back = button("", () => acts.rollback(name, this.before), "plain");
    this.pause = button("", () => acts.maintenance(name, !model.services.get(name)?.maintenance), "plain");
    this.how = el("p", {
      class: "soft how",
      text: "Somebody else runs its backends. To roll: list the next generation in the file, then Reload.",
    });
    const buttons = el("div", { class: "buttons" }, this.promote, this.roll, this.back, this.pause, this.how);

    this.columns = el("div", { class: "columns" });
    this.strip = el(
      "div",
      { class: "strip", role: "group", "aria-label": `Generations of ${name}, newest first` },
      this.columns,
    );
    this.place = el("div", { class: "place" });
    this.legend = legend();

    this.crowdTitle = el("summary");
    this.tiles = el("div", { class: "tiles" });
    this.crowd = el(
      "details",
      { class: "crowd", ontoggle: () => this.update(model.services.get(name)) },
      this.crowdTitle,
      this.tiles,
    );

    this.retired = el("ul", { class: "chips" });
    this.past = el("div", { class: "past" }, el("h3", { text: "Retired" }), this.retired);
    this.find = sessionForm(name);

    this.root = el(
      "section",
      { class: "service", id, "aria-labelledby": `${id}-name`, "data-service": name },
      el(
        "header",
        {},
        el(
          "div",
          {},
          el("h2", { id: `${id}-name`, tabindex: "-1", text: name }),
          this.sentence,
          this.orphan,
          this.maintenance,
          this.notes,
        ),
        buttons,
      ),
      this.strip,
      this.legend,
      this.place,
      this.crowd,
      el("footer", {}, this.past, this.find),
    );
  }

  /** Ends what it asks for. */
  remove() {
    this.details?.remove();
  }

  /**
   * Draws it anew.
   * @param {object} service its overview
   */
  update(service) {
    if (!service) return;
    const { generations } = service;
    const state = standing(service);
    this.head(service, state);
    const live = generations.filter((generation) => LIVE.has(generation.state));
    const full = this.choose(live);
    const scale = scaleOf(full, this.name);
    const ramp = sum(generations, "share");
    const place = {
      active: service.active === undefined ? undefined : `${this.name}@${service.active}`,
      ramp,
      maintenance: service.maintenance,
    };
    this.views = keyed(
      this.columns,
      full,
      ({ number: one }) => one,
      (generation) => new Shown(new Column(this.name, generation, (one) => this.toggle(one))),
    );
    for (const generation of full) this.views.get(generation.number).column.update(generation, scale, place);
    show(this.strip, full.length > 0);
    show(this.legend, full.length > 0);
    attr(this.root, "data-stale", model.old);
    this.scroll();
    this.others(live.filter((generation) => !full.includes(generation)));

    const past = generations.filter(({ state: word }) => word === "retired");
    keyed(
      this.retired,
      past,
      ({ number: one }) => one,
      (generation) => new Chip(this.name, generation),
    );
    show(this.past, past.length > 0);
    show(this.find, service.mode !== "tcp");
    if (this.details && !this.views.has(this.details.generation)) this.toggle(this.details.generation);
  }

  // The strip can be scrolled by keyboard only when there is something to scroll to.
  scroll() {
    const wide = this.strip.scrollWidth > this.strip.clientWidth + 1;
    attr(this.strip, "tabindex", wide ? 0 : undefined);
  }

  /** Asks for idle times, if somebody looks or waits for an end, and the last answer is old. */
  ask() {
    const service = model.services.get(this.name);
    if (!service || model.old || document.visibilityState !== "visible") return;
    const waits = service.generations.some((generation) => leaving(generation) && generation.sessions > 0);
    if (!onScreen(this.root) && !waits && this.asked > 0) return;
    if (Date.now() - this.asked < SPREAD) return;
    this.asked = Date.now();
    loadSpread(this.name);
  }

  choose(live) {
    if (live.length <= FULL) return live;
    const first = live.filter(
      ({ state, trouble, number: one }) =>
        this.pinned.has(one) ||
        state === "active" ||
        state === "ready" ||
        state === "starting" ||
        (trouble && state !== "failed"),
    );
    const chosen = new Set(first.slice(0, FULL + this.pinned.size));
    for (const generation of live) {
      if (chosen.size >= FULL + this.pinned.size) break;
      chosen.add(generation);
    }
    return live.filter((generation) => chosen.has(generation));
  }

  head(service, state) {
    rich(this.sentence, sentence(service, state));
    show(this.maintenance, service.maintenance);
    show(this.orphan, !service.in_file);
    const notes = state.trouble.map((words) => ({ words, wrong: true }));
    if (service.waiting > 0)
      notes.push({
        words: `${count(service.waiting, "request")} ${service.waiting === 1 ? "waits" : "wait"} for a backend`,
      });
    if (service.waited_in_vain > 0)
      notes.push({ words: `${count(service.waited_in_vain, "request")} waited in vain since the start` });
    const most =
      notes.length > 6 ? [...notes.slice(0, 5), { words: `and ${number(notes.length - 5)} more`, wrong: true }] : notes;
    keyed(
      this.notes,
      most,
      ({ words }) => words,
      ({ words, wrong }) => ({
        root: el(
          "li",
          { class: wrong ? "wrong" : "soft" },
          wrong ? shape("trouble") : shape("event"),
          el("span", { text: words }),
        ),
      }),
    );
    show(this.notes, notes.length > 0);

    this.ready = service.generations.find(({ state: word }) => word === "ready")?.number;
    this.before = service.generations.find(
      ({ state: word, number: one }) => word === "detached" && one < (service.active ?? 0),
    )?.number;
    show(this.roll, service.has_workers && service.in_file);
    show(this.how, !service.has_workers && service.in_file);
    show(this.promote, this.ready !== undefined);
    text(this.promote, `Promote ${this.name}@${this.ready}`);
    show(this.back, this.before !== undefined);
    text(this.back, `Roll back to ${this.name}@${this.before}`);
    text(this.pause, service.maintenance ? "Maintenance off" : "Maintenance on");
    show(this.pause, service.in_file);
  }

  others(rest) {
    show(this.crowd, rest.length > 0);
    if (rest.length === 0) return;
    text(this.crowdTitle, `${count(rest.length, "more generation")}, with ${count(sum(rest, "sessions"), "session")}`);
    if (!this.crowd.open) return;
    const top = Math.max(1, ...rest.map(({ sessions }) => sessions));
    keyed(
      this.tiles,
      rest,
      ({ number: one }) => one,
      ({ number: one }) =>
        new Tile(this.name, one, () => {
          this.pinned.add(one);
          this.update(model.services.get(this.name));
          this.views.get(one)?.column.root.querySelector("h3").focus();
        }),
    ).forEach((tile, one) =>
      tile.draw(
        rest.find((generation) => generation.number === one),
        top,
      ),
    );
  }

  toggle(generation) {
    const before = this.details;
    if (before) {
      before.remove();
      before.root.remove();
      this.details = null;
      const column = this.views.get(before.generation)?.column;
      if (column) {
        attr(column.open, "aria-expanded", "false");
        attr(column.open, "aria-controls", undefined);
        attr(column.root, "data-open", undefined);
        if (before.generation === generation) column.open.focus();
      }
      if (before.generation === generation) return;
    }
    const { column } = this.views.get(generation);
    this.details = new Details(this.name, generation, () => this.toggle(generation));
    attr(column.open, "aria-expanded", "true");
    attr(column.open, "aria-controls", this.details.root.id);
    attr(column.root, "data-open", true);
    this.seat();
    this.details.root.querySelector("h4").focus({ preventScroll: true });
    this.details.root.scrollIntoView({ block: "nearest" });
  }

  /** Puts the details below all columns, and on a narrow screen below their own. */
  seat() {
    if (!this.details) return;
    const wanted = narrow.matches ? this.views.get(this.details.generation).column.root : this.place;
    if (this.details.root.parentNode !== wanted) wanted.append(this.details.root);
  }
}

/**
 * Calls a listener when the screen becomes narrow or wide.
 * @param {() => void} listener what to call
 */
export const onWidth = (listener) => narrow.addEventListener("change", listener);

class Shown {
  constructor(column) {
    this.column = column;
    this.root = column.root;
  }
}

class Tile {
  constructor(service, one, pin) {
    this.shape = shape("detached");
    this.words = el("span", { class: "words" });
    this.bar = el("i", { class: "bar" });
    this.root = el(
      "button",
      { type: "button", class: "tile", onclick: pin, "data-generation": one },
      el("b", { text: `${service}@${one}` }),
      this.shape,
      this.words,
      this.bar,
      el("span", { class: "unseen", text: "Show as a column" }),
    );
  }

  draw({ state, sessions, since: from }, top) {
    setShape(this.shape, state);
    text(this.words, `${count(sessions, "session")}, ${state} for ${span(since(from))}`);
    size(this.bar, "--size", sessions / top);
  }
}

class Chip {
  constructor(service, generation) {
    this.age = el("span", { class: "soft" });
    this.since = generation.since;
    this.root = el("li", {}, shape("retired"), el("b", { text: `${service}@${generation.number}` }), " ", this.age);
  }

  update() {
    text(this.age, `${span(since(this.since))} ago`);
  }
}

function sentence(service, state) {
  const parts = [];
  const { name, active } = service;
  const starting = service.generations.find(({ state: word }) => word === "starting");
  const ramped = service.generations.find(({ share }) => share !== undefined);
  if (service.maintenance) {
    parts.push(["New sessions are turned away"], ". ");
  } else if (active !== undefined) {
    parts.push("New sessions go to ", [`${name}@${active}`]);
    if (ramped) parts.push(`, ${ramped.share} of 100 to `, [`${name}@${ramped.number}`]);
    parts.push(". ");
  } else {
    parts.push("No generation takes new sessions. ");
  }
  if (starting) parts.push([`${name}@${starting.number}`], " is starting. ");
  const on = state.leaving.filter(({ sessions }) => sessions > 0);
  if (on.length === 0) {
    parts.push(state.leaving.length === 0 ? "Nobody is on another version." : "Nobody is left on another version.");
    return parts;
  }
  parts.push([number(state.left)], ` ${state.left === 1 ? "session is" : "sessions are"} still on `);
  parts.push([
    on.length > 3 ? `${number(on.length)} other generations` : list(on.map((one) => `${name}@${one.number}`)),
  ]);
  if (state.empty !== undefined) {
    parts.push(
      ", empty ",
      [state.empty > now() ? `by ${clock(state.empty, now())}` : "in a moment"],
      " if nobody comes back",
    );
  }
  parts.push(".");
  return parts;
}

function legend() {
  const item = (kind, words, inside) => el("li", {}, el("i", { class: `key ${kind}` }, inside), words);
  return el(
    "ul",
    { class: "legend", "aria-hidden": "true" },
    item("water", "sessions"),
    item("once", "seen once"),
    item("sand", "ebbed since its highest"),
    item("pipes", "tunnels", draw("svg", { viewBox: "0 0 10 12" }, draw("path", { d: "M10 0v12L0 6z" }))),
  );
}
