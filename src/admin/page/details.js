// The backends of one generation, asked for again every 2 s while they are looked at.

import { call, path } from "/api.js";
import { attr, button, el, keyed, line, setShape, shape, show, text } from "/dom.js";
import { failure } from "/dialog.js";
import { onScreen } from "/watch.js";
import { count, number, span } from "/words.js";
import { since } from "/model.js";
import * as acts from "/acts.js";

const PAGE = 100;
const PAUSE = 2_000;

/**
 * What an operator wants to know of a backend first.
 * @param {object} backend as the API tells it
 * @returns {{shape: string, words: string[], rank: number}} `rank` is 0 for what is in trouble, then 1, and 2 when all is well
 */
export function condition(backend) {
  const words = [];
  let rank = 2;
  const say = (sentence, weight) => {
    words.push(sentence);
    rank = Math.min(rank, weight);
  };
  const why = (reason) => (reason ? `: ${reason}` : "");
  if (backend.intent === "down") say("Down, as wanted", 1);
  if (backend.intent === "drain") say("Drains, as wanted", 1);
  if (backend.unreachable_seconds !== undefined) say(`Unreachable for ${span(backend.unreachable_seconds)}`, 0);
  if (backend.health === "down") say(`Unhealthy${why(backend.health_reason)}`, 0);
  if (backend.ejected_until !== undefined)
    say(`Ejected for ${span(-since(backend.ejected_until))}${why(backend.ejection_reason)}`, 0);
  if (backend.worker?.state === "backoff") say(`Worker died${why(backend.worker.last_exit)}`, 0);
  if (!backend.ready) say("Not ready yet", 1);
  if (words.length === 0) say(backend.health === "up" ? "Healthy" : "Ready", 2);
  return {
    shape:
      rank === 0
        ? "trouble"
        : backend.intent === "down"
          ? "failed"
          : backend.intent === "drain"
            ? "detached"
            : backend.ready
              ? "calm"
              : "starting",
    words,
    rank,
  };
}

/** The panel with the backends of a generation. */
export class Details {
  /**
   * @param {string} service its service
   * @param {number} generation its number
   * @param {() => void} close closes it
   */
  constructor(service, generation, close) {
    this.service = service;
    this.generation = generation;
    this.limit = PAGE;
    this.backends = [];
    this.closed = false;
    const id = `details-${service}-${generation}`;
    this.filter = el("input", {
      type: "search",
      autocomplete: "off",
      spellcheck: "false",
      id: `${id}-filter`,
      oninput: () => {
        this.limit = PAGE;
        this.draw();
      },
    });
    this.shown = el("p", { class: "shown" });
    this.fault = el("div");
    this.body = el("tbody", { role: "rowgroup" });
    this.more = button(
      "Show more",
      () => {
        this.limit += PAGE;
        this.draw();
      },
      "plain",
    );
    const heads = ["Backend", "Condition", "Sessions", "Requests", "Tunnels", "Worker", "Actions"];
    const table = el(
      "table",
      { role: "table", "aria-labelledby": id },
      el(
        "thead",
        { role: "rowgroup" },
        el("tr", { role: "row" }, ...heads.map((name) => el("th", { scope: "col", role: "columnheader", text: name }))),
      ),
      this.body,
    );
    this.find = el("div", { class: "filter" }, el("label", { for: `${id}-filter`, text: "Filter" }), this.filter);
    this.root = el(
      "section",
      { class: "details", id: `${id}-panel`, "aria-labelledby": id },
      el(
        "header",
        {},
        el("h4", { id, tabindex: "-1", text: `Backends of ${service}@${generation}` }),
        this.find,
        this.shown,
        button("Close details", close, "plain"),
      ),
      this.fault,
      table,
      el("p", {}, this.more),
    );
    this.poll();
  }

  /** Ends the asking. */
  remove() {
    this.closed = true;
    clearTimeout(this.timer);
  }

  async poll() {
    if (this.closed) return;
    const begin = performance.now();
    if (onScreen(this.root) || this.backends.length === 0) await this.load();
    // A long list is not asked for again before the gateway and the page had time for something else.
    const took = performance.now() - begin;
    if (!this.closed) this.timer = setTimeout(() => this.poll(), Math.max(PAUSE, took * 5));
  }

  async load() {
    try {
      const answer = await call("GET", path("services", this.service, "generations", this.generation));
      this.backends = answer.backends;
      this.fault.replaceChildren();
      this.draw();
    } catch (problem) {
      this.fault.replaceChildren(...(problem.status === undefined ? [] : failure(problem)));
    }
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const rows = [];
    let troubled = 0;
    this.backends.forEach((backend, index) => {
      const state = condition(backend);
      if (state.rank === 0) troubled += 1;
      const pid = backend.worker?.pid === undefined ? "" : ` ${backend.worker.pid}`;
      const hay = `${backend.name} ${backend.address}${pid} ${state.words.join(" ")}`.toLowerCase();
      if (hay.includes(wanted)) rows.push({ backend, state, index });
    });
    rows.sort((a, b) => a.state.rank - b.state.rank || a.index - b.index);
    const shown = rows.slice(0, this.limit);
    keyed(
      this.body,
      shown,
      ({ backend }) => backend.name,
      ({ backend }) => new Row(this, backend.name),
    );
    show(this.find, this.backends.length > 5 || wanted !== "");
    const first = troubled > 0 ? `, ${number(troubled)} in trouble first` : "";
    text(
      this.shown,
      rows.length > shown.length
        ? `${number(shown.length)} of ${count(rows.length, "backend")}${first}`
        : `${count(rows.length, "backend")}${first}`,
    );
    show(this.more, rows.length > shown.length);
    text(this.more, `Show ${number(Math.min(PAGE, rows.length - shown.length))} more`);
  }
}

class Row {
  constructor(details, name) {
    const { service, generation } = details;
    this.name = name;
    this.address = el("span", { class: "address" });
    this.shape = shape("calm");
    this.condition = el("span");
    this.sessions = el("b");
    this.once = el("span", { class: "soft" });
    this.requests = el("span");
    this.tunnels = el("span");
    this.worker = el("span");
    this.restarts = el("span", { class: "soft" });
    this.last = el("span", { class: "soft" });
    this.output = button("Output", () => acts.output(service, generation, name), "plain small");
    attr(this.output, "aria-label", `Output of ${name}`);
    const cell = (label, ...inside) => el("td", { role: "cell", "data-label": label }, ...inside);
    const find = () => details.backends.find((backend) => backend.name === name);
    const intend = (label, intent, kind) => {
      const one = button(
        label,
        () => acts.backend(service, generation, find, name, intent, () => details.load()),
        kind,
      );
      attr(one, "aria-label", `${label} ${name}`);
      return one;
    };
    this.intents = {
      up: intend("Up", "up", "plain small"),
      drain: intend("Drain", "drain", "plain small"),
      down: intend("Down", "down", "plain small danger"),
    };
    this.root = el(
      "tr",
      { role: "row", "data-backend": name },
      el("th", { scope: "row", role: "rowheader" }, el("span", { text: name }), this.address),
      cell("Condition", el("span", { class: "condition" }, this.shape, this.condition)),
      cell("Sessions", this.sessions, " ", this.once),
      cell("Requests", this.requests),
      cell("Tunnels", this.tunnels),
      cell("Worker", this.worker, this.restarts, this.last, this.output),
      cell("Actions", el("span", { class: "buttons" }, ...Object.values(this.intents))),
    );
  }

  update({ backend, state }) {
    line(this.address, backend.address === this.name ? "" : backend.address);
    setShape(this.shape, state.shape);
    text(this.condition, state.words.join(". "));
    attr(this.root, "data-rank", state.rank);
    attr(this.root, "data-intent", backend.intent);
    text(this.sessions, number(backend.sessions));
    line(this.once, backend.unconfirmed > 0 ? `${number(backend.unconfirmed)} seen once` : "");
    text(
      this.requests,
      backend.max_requests === undefined
        ? number(backend.requests)
        : `${number(backend.requests)} of ${number(backend.max_requests)}`,
    );
    text(this.tunnels, number(backend.tunnels));
    this.process(backend.worker);
    for (const [intent, one] of Object.entries(this.intents)) show(one, intent !== backend.intent);
  }

  process(worker) {
    show(this.output, worker !== undefined);
    if (!worker) {
      text(this.worker, "none of the gateway's");
      attr(this.worker, "class", "soft");
      line(this.restarts, "");
      line(this.last, "");
      return;
    }
    const ports = Object.entries(worker.ports ?? {}).map(([family, port], _, all) =>
      all.length > 1 ? `${family} ${port}` : `port ${port}`,
    );
    const memory = worker.memory_bytes === undefined ? [] : [`${number(Math.ceil(worker.memory_bytes / 2 ** 20))} MiB`];
    const facts = [...(worker.pid === undefined ? [] : [`pid ${worker.pid}`]), ...ports, ...memory];
    attr(this.worker, "class", undefined);
    text(
      this.worker,
      `${facts.join(", ")}${facts.length > 0 ? ", " : ""}${worker.state} for ${span(since(worker.since))}`,
    );
    const again = worker.life > 1 ? `restarted ${worker.life === 2 ? "once" : `${number(worker.life - 1)} times`}` : "";
    line(this.restarts, [again, worker.last_exit ? `last: ${worker.last_exit}` : ""].filter(Boolean).join(", "));
    line(this.last, worker.work ? count(worker.work, "work") : "");
  }
}
