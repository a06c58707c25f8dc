// One generation as a column of a tide gauge: how high its sessions stand, and from where they have ebbed.

import { attr, button, draw, el, line, rich, setShape, shape, show, size, text } from "/dom.js";
import { histogram, sparkline } from "/sketch.js";
import { clock, count, list, number, short, span, weight } from "/words.js";
import { model, now, peak, since } from "/model.js";
import * as acts from "/acts.js";

const SOON = 300;

/**
 * A scale for the gauges of a service, so that their heights can be compared.
 * @param {object[]} generations those that are shown as columns
 * @param {string} service their service
 * @returns {{top: number, ticks: number[]}} the value at full height, and the values that are marked
 */
export function scaleOf(generations, service) {
  const most = Math.max(
    4,
    ...generations.map((one) => Math.max(one.tunnels, leaving(one) ? peak(service, one).most : one.sessions)),
  );
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
  const top = Math.ceil(most / step) * step;
  return { top, ticks: Array.from({ length: Math.round(top / step) - 1 }, (_, index) => (index + 1) * step) };
}

/**
 * Whether the sessions of a generation are only to become fewer.
 * @param {{state: string}} generation the generation
 * @returns {boolean} true from detached on
 */
export const leaving = ({ state }) => state === "detached" || state === "retiring";

/**
 * Says what is wrong with the backends of a generation.
 * @param {object} backends the counts of the overview
 * @returns {string[]} such as `1 unhealthy`
 */
export function faults(backends) {
  const named = [
    ["unhealthy", "unhealthy"],
    ["ejected", "ejected"],
    ["unreachable", "unreachable"],
    ["drain", "draining"],
    ["down", "down"],
    ["unready", "not ready"],
  ];
  return named.filter(([key]) => backends[key] > 0).map(([key, word]) => `${number(backends[key])} ${word}`);
}

/** The view of one generation. */
export class Column {
  /**
   * @param {string} service its service
   * @param {object} generation the generation
   * @param {(number: number) => void} toggle opens or closes its details
   */
  constructor(service, generation, toggle) {
    this.service = service;
    this.number = generation.number;
    this.name = `${service}@${generation.number}`;
    const id = `gen-${service}-${generation.number}`;

    this.shape = shape(generation.state);
    this.state = el("span");
    this.age = el("p", { class: "age" });
    const head = el(
      "header",
      {},
      el(
        "h3",
        { id, tabindex: "-1" },
        el("span", { class: "of", text: `${service}@` }),
        el("span", { text: generation.number }),
      ),
      el("p", { class: "state" }, this.shape, this.state),
      this.age,
    );

    this.trouble = el("p", { class: "trouble" });
    this.unsure = el("p", { class: "notice", text: "Sessions may be open that are not counted yet." });
    const words = el("div", { class: "said" }, this.trouble, this.unsure);

    this.sand = el("i", { class: "part sand" });
    this.water = el("i", { class: "part water" });
    this.once = el("i", { class: "part once" });
    this.mark = el("i", { class: "mark" });
    this.pipes = el(
      "i",
      { class: "pipes" },
      draw("svg", { viewBox: "0 0 10 12" }, draw("path", { d: "M10 0v12L0 6z" })),
    );
    this.ticks = el("div", { class: "ticks" });
    this.tank = el(
      "div",
      { class: "tank", role: "img" },
      this.sand,
      this.water,
      this.once,
      this.ticks,
      this.mark,
      this.pipes,
    );
    this.sessions = el("strong", { class: "figure" });
    this.noun = el("span", { class: "noun" });
    this.facts = ["unconfirmed", "requests", "tunnels", "work"].map((key) => ({
      key,
      value: el("b"),
      unit: el("span"),
    }));
    const facts = el(
      "ul",
      { class: "facts" },
      ...this.facts.map((fact) => (fact.item = el("li", { class: fact.key }, fact.value, " ", fact.unit))),
    );
    const gauge = el(
      "div",
      { class: "gauge" },
      this.tank,
      el("div", {}, el("p", {}, this.sessions, " ", this.noun), facts),
    );

    this.takes = el("p", { class: "takes" });
    this.gone = el("progress", { max: "1" });
    this.drained = el("p");
    this.ends = el("p", { class: "ends" });
    this.deadline = el("p", { class: "deadline" });
    this.ebb = el("div", { class: "ebb" }, this.takes, this.drained, this.gone, this.ends, this.deadline);

    this.sparkline = sparkline();
    this.histogram = histogram();
    this.backends = el("p", { class: "backends" });

    this.open = button("Details", () => toggle(this.number), "plain");
    attr(this.open, "aria-expanded", "false");
    this.promote = button("Promote", () => acts.promote(service, this.number));
    this.detach = button("Detach", () => acts.detach(service, this.number), "plain");
    this.back = button("Roll back to this", () => acts.rollback(service, this.number), "plain");
    this.retire = button("Retire now", () => acts.retire(service, this.number), "plain danger");
    for (const one of [this.open, this.promote, this.detach, this.back, this.retire]) attr(one, "aria-describedby", id);

    this.root = el(
      "article",
      { class: "column", "aria-labelledby": id, "data-generation": this.number },
      head,
      words,
      gauge,
      this.ebb,
      this.sparkline.root,
      this.histogram.root,
      this.backends,
      el("div", { class: "buttons" }, this.open, this.promote, this.back, this.detach, this.retire),
    );
    this.drawn = "";
  }

  /**
   * Draws it anew.
   * @param {object} generation as it is now
   * @param {{top: number, ticks: number[]}} scale of its service
   * @param {{active?: string, ramp: number, maintenance: boolean}} place the name of the active generation, the share that a
   *   ready one takes from it, and whether new sessions are turned away
   */
  update(generation, scale, place) {
    const { state, sessions, unconfirmed } = generation;
    const ebbing = leaving(generation);
    attr(this.root, "data-state", state);
    setShape(this.shape, state);
    text(this.state, state);
    text(this.age, `for ${span(since(generation.since))}`);
    line(this.trouble, generation.trouble ?? "");
    show(this.unsure, generation.unsure);

    const { most, whole } = ebbing ? peak(this.service, generation) : { most: sessions, whole: true };
    this.fill(generation, scale, most);
    text(this.sessions, number(sessions));
    attr(this.sessions, "data-long", sessions >= 1_000_000 ? "2" : sessions >= 10_000 ? "1" : undefined);
    text(this.noun, sessions === 1 ? "session" : "sessions");
    this.count(generation);

    line(this.takes, takes(generation, place));
    show(this.drained, ebbing && most > 0);
    show(this.gone, ebbing && most > 0);
    if (ebbing && most > 0) {
      const from = whole ? `of ${number(most)} left` : `left, of ${number(most)} in the last hour`;
      rich(this.drained, [[number(sessions)], ` ${from}`]);
      const part = (most - sessions) / most;
      if (this.gone.value !== part) this.gone.value = part;
      attr(this.gone, "aria-label", `${Math.round(part * 100)} percent of the sessions of ${this.name} have ended`);
    }
    rich(this.ends, ends(generation, model.spread.get(this.service)?.get(this.number)));
    show(this.ends, this.ends.textContent !== "");
    this.force(generation);

    const drawing = `${model.version} ${sessions} ${unconfirmed}`;
    if (this.drawn !== drawing) {
      this.drawn = drawing;
      const spread = model.spread.get(this.service)?.get(this.number);
      const points = model.history.get(this.service)?.get(this.number) ?? [];
      this.sparkline.update(points, sessions, now());
      attr(this.sparkline.root, "data-empty", sessions === 0 && points.every((point) => point.sessions === 0));
      this.histogram.update(spread);
      attr(this.histogram.root, "data-empty", sessions === 0 || spread === undefined);
    }
    this.health(generation.backends);
    show(this.promote, state === "ready");
    show(this.detach, state === "ready" || state === "starting");
    show(this.back, state === "detached");
    show(this.retire, state === "detached");
  }

  fill({ sessions, unconfirmed, tunnels }, { top, ticks }, most) {
    const bound = Math.max(0, sessions - unconfirmed);
    const parts = [
      [this.sand, 0, most > sessions ? most : 0],
      [this.water, 0, bound],
      [this.once, bound, Math.min(unconfirmed, sessions)],
    ];
    for (const [part, from, value] of parts) {
      size(part, "--from", from / top);
      size(part, "--size", value / top);
      attr(part, "data-some", value > 0);
    }
    show(this.mark, most > sessions);
    size(this.mark, "--from", most / top);
    show(this.pipes, tunnels > 0);
    size(this.pipes, "--from", Math.min(1, tunnels / top));
    const wanted = `${top} ${ticks.join(" ")}`;
    if (this.ticks.dataset.scale !== wanted) {
      this.ticks.dataset.scale = wanted;
      this.ticks.replaceChildren(
        ...ticks.map((value) => {
          const tick = el("span", { text: short(value) });
          size(tick, "--from", value / top);
          return tick;
        }),
      );
    }
    const high = most > sessions ? `, from ${number(most)} at its highest` : "";
    attr(
      this.tank,
      "aria-label",
      `Gauge: ${count(sessions, "session")}${high}, ${number(unconfirmed)} seen once, ${count(tunnels, "tunnel")}`,
    );
  }

  count(generation) {
    const units = {
      unconfirmed: () => "seen once",
      requests: (value) => (value === 1 ? "request in flight" : "requests in flight"),
      tunnels: (value) => (value === 1 ? "tunnel" : "tunnels"),
      work: () => "unfinished work",
    };
    for (const { key, value, unit, item } of this.facts) {
      const many = generation[key] ?? 0;
      text(value, number(many));
      text(unit, units[key](many));
      show(item, many > 0 || key === "requests");
      attr(item, "data-none", many === 0);
    }
  }

  force(generation) {
    if (!generation.deadline || weight(generation) === 0) {
      show(this.deadline, false);
      return;
    }
    const left = -since(generation.deadline);
    line(
      this.deadline,
      left > 0
        ? `Ended by force in ${span(left)}, at ${clock(Date.parse(generation.deadline), now())}`
        : "What is left is being ended by force",
    );
    attr(this.deadline, "data-soon", left < SOON);
  }

  health(backends) {
    const wrong = faults(backends);
    const all = count(backends.total, "backend");
    const taking =
      backends.taking === backends.total
        ? backends.total === 1
          ? "takes sessions"
          : "all take sessions"
        : backends.taking === 0
          ? ""
          : `${number(backends.taking)} take${backends.taking === 1 ? "s" : ""} sessions`;
    const rest = [...wrong, ...(wrong.length === 0 && taking ? [taking] : [])];
    text(this.backends, rest.length > 0 ? `${all}: ${list(rest)}` : all);
    attr(this.backends, "data-wrong", backends.unhealthy + backends.ejected + backends.unreachable > 0);
  }
}

function takes({ state, share }, { active, ramp, maintenance }) {
  if (maintenance && (state === "active" || state === "ready")) return "Takes no new sessions during maintenance";
  if (state === "active") return ramp > 0 ? `Takes ${100 - ramp} of 100 new sessions` : "Takes the new sessions";
  if (state === "ready")
    return share === undefined
      ? "Ready beside the active one, takes no sessions yet"
      : `Takes ${share} of 100 new sessions`;
  if (state === "starting")
    return active === undefined ? "Its backends are not ready yet" : `Not ready yet; ${active} stays active meanwhile`;
  return state === "failed" ? "Did not get ready; takes no sessions" : "";
}

/**
 * When a generation is going to be empty.
 * @param {object} generation the generation
 * @param {{empties_at?: string}|undefined} spread what is known of its sessions
 * @returns {Array<string|[string]>} parts of a sentence for `rich`; empty when that cannot be said
 */
export function ends(generation, spread) {
  if (!leaving(generation)) return [];
  if (generation.sessions === 0) {
    return generation.state === "retiring"
      ? ["Empty; its hook and clean-up are under way"]
      : weight(generation) > 0
        ? ["No session left; waits for what is in flight"]
        : ["Empty"];
  }
  if (!spread?.empties_at) return [];
  const at = Date.parse(spread.empties_at);
  return at > now()
    ? ["Empty by ", [clock(at, now())], " if nobody comes back"]
    : ["Empty ", ["in a moment"], " if nobody comes back"];
}
