// What the page knows of the gateway: kept from the stream of changes, and from what is asked beside it.

import { call, path } from "/api.js";

/** The states of a generation that has something to show as a column. */
export const LIVE = new Set(["starting", "ready", "active", "detached", "retiring", "failed"]);

const HOUR = 3600_000;
const STEP = 15_000;
const MOST_EVENTS = 1_000;

/** Everything that is shown. Only this module changes it. */
export const model = {
  gateway: null,
  /** @type {Map<string, object>} overviews by service, in the gateway's order */
  services: new Map(),
  /** @type {Map<string, Map<number, {idle: object[], empties_at?: string, longest_idle_seconds?: number}>>} */
  spread: new Map(),
  /** @type {Map<string, Map<number, Array<{at: number, sessions: number}>>>} */
  history: new Map(),
  /** @type {object[]} newest first */
  events: [],
  complete: false,
  /** `old` while the stream is cut; then `heard` is when the last word came, and `retry_at` when it is tried again. */
  old: false,
  heard: 0,
  retry_at: 0,
  /** Grows with each change of what is asked beside the stream, so that drawings know when to draw again. */
  version: 0,
};

let difference = 0;
let arriving = null;
const listeners = new Set();
const changes = new Set();

/** @returns {number} the gateway's wall clock, in milliseconds since 1970 */
export const now = () => Date.now() + difference;

/**
 * The seconds since a moment of the gateway.
 * @param {string} moment by RFC 3339
 * @returns {number} negative when it is still to come
 */
export const since = (moment) => (now() - Date.parse(moment)) / 1000;

/**
 * Adds a listener to every change.
 * @param {() => void} listener called at once when something changed; it must be quick
 * @returns {() => void} removes it
 */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Adds a listener to what an operator should be told of.
 * @param {(sentence: string) => void} listener called with one sentence
 */
export function onNews(listener) {
  changes.add(listener);
}

function changed() {
  for (const listener of listeners) listener();
}

function tell(sentence) {
  for (const listener of changes) listener(sentence);
}

/** Forgets all, because nobody is logged in any more. */
export function clear() {
  for (const map of [model.services, model.spread, model.history]) map.clear();
  Object.assign(model, { gateway: null, events: [], complete: false, old: false });
}

/** The listener for `follow`. */
export const intake = {
  opened() {
    arriving = new Set();
  },
  lost(pause) {
    if (model.complete && !model.old) tell("Connection lost, trying again. What is shown is old.");
    model.old = true;
    model.retry_at = Date.now() + pause;
    changed();
  },
  event(kind, data) {
    model.heard = now();
    if (kind === "gateway") {
      difference = Date.parse(data.now) - Date.now();
      model.gateway = data;
    } else if (kind === "service") {
      arriving?.add(data.name);
      if (model.complete && !model.old) compare(model.services.get(data.name), data);
      model.services.set(data.name, data);
    } else if (kind === "removed") {
      drop(data.service);
    } else if (kind === "happened") {
      merge([data]);
    } else if (kind === "complete") {
      settle();
    }
    changed();
  },
};

function settle() {
  const order = [...arriving];
  for (const name of [...model.services.keys()]) {
    if (!arriving.has(name)) drop(name);
  }
  // A map keeps the order of the first insertion; the gateway's may be another one by now.
  const services = order.map((name) => [name, model.services.get(name)]);
  model.services.clear();
  for (const [name, service] of services) model.services.set(name, service);
  arriving = null;
  if (model.old) tell("Connected again. What is shown is live.");
  model.old = false;
  model.complete = true;
  loadEvents();
  loadHistories(order);
}

function drop(name) {
  model.services.delete(name);
  model.spread.delete(name);
  model.history.delete(name);
}

function compare(before, after) {
  const known = new Map((before?.generations ?? []).map((generation) => [generation.number, generation]));
  for (const generation of after.generations) {
    const old = known.get(generation.number);
    if (old?.state === generation.state) continue;
    const name = `${after.name}@${generation.number}`;
    const sentence = {
      starting: `${name} is starting.`,
      ready: `${name} is ready.`,
      active: `${name} is active: it takes the new sessions.`,
      detached: `${name} is detached, with ${generation.sessions} open sessions.`,
      retiring: `${name} is empty and is being retired.`,
      retired: `${name} is retired.`,
      failed: `${name} failed. ${generation.trouble ?? ""}`,
    }[generation.state];
    if (sentence) tell(sentence);
  }
  if (before && before.maintenance !== after.maintenance) {
    tell(`Maintenance of ${after.name} is ${after.maintenance ? "on" : "off"}.`);
  }
}

function merge(events) {
  // What is listed may have come by the stream as well; the later ones of a moment come first.
  const all = new Map([...model.events].reverse().map((event) => [identity(event), event]));
  const known = all.size;
  for (const event of events) all.set(identity(event), event);
  if (all.size === known) return;
  const order = [...all.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  model.events = order.reverse().slice(0, MOST_EVENTS);
}

/**
 * What tells events apart.
 * @param {{at: string, kind: string, text: string}} event the event
 * @returns {string} the same for the same event
 */
export const identity = ({ at, kind, text }) => `${at} ${kind} ${text}`;

async function loadEvents() {
  try {
    merge((await call("GET", "/v1/events")).events);
    changed();
  } catch {
    // The stream reports a gateway that does not answer; the events come with the next one.
  }
}

async function loadHistories(names) {
  for (const name of names) {
    try {
      const { interval_seconds: interval, until, generations } = await call("GET", path("services", name, "history"));
      const end = Date.parse(until);
      const of = new Map();
      for (const { number, sessions } of generations) {
        const at = (index) => end - (sessions.length - 1 - index) * interval * 1000;
        of.set(
          number,
          sessions.map((value, index) => ({ at: at(index), sessions: value })),
        );
      }
      model.history.set(name, of);
      model.version += 1;
      changed();
    } catch {
      // As for the events.
    }
  }
}

/** Writes the present counts down, where the last ones are 15 s old. To be called every second. */
export function remember() {
  if (model.old || !model.complete) return;
  const at = now();
  for (const [name, service] of model.services) {
    if (!model.history.has(name)) model.history.set(name, new Map());
    const of = model.history.get(name);
    for (const { number, state, sessions } of service.generations) {
      if (!LIVE.has(state)) {
        of.delete(number);
        continue;
      }
      if (!of.has(number)) of.set(number, []);
      const points = of.get(number);
      if (points.length > 0 && at - points.at(-1).at < STEP) continue;
      points.push({ at, sessions });
      while (points[0].at < at - HOUR) points.shift();
      model.version += 1;
    }
  }
}

/**
 * The most sessions that a generation had since it was detached, as far as the last hour knows.
 * @param {string} service its service
 * @param {{number: number, since: string, sessions: number}} generation the generation
 * @returns {{most: number, whole: boolean}} `whole`: the hour goes back to when it was detached
 */
export function peak(service, generation) {
  const points = model.history.get(service)?.get(generation.number) ?? [];
  const begin = Date.parse(generation.since);
  const most = points.reduce(
    (top, { at, sessions }) => (at >= begin - STEP ? Math.max(top, sessions) : top),
    generation.sessions,
  );
  return { most, whole: points.length === 0 || points[0].at <= begin + STEP };
}

/**
 * Asks how the sessions of a service are spread by idle time.
 * @param {string} name the service
 */
export async function loadSpread(name) {
  try {
    const { generations } = await call("GET", path("services", name, "sessions"));
    if (!model.services.has(name)) return;
    model.spread.set(name, new Map(generations.map((generation) => [generation.number, generation])));
    model.version += 1;
    changed();
  } catch {
    // As for the events.
  }
}

/**
 * A generation as it is now.
 * @param {string} service its service
 * @param {number} number its number
 * @returns {object|undefined} none when it is gone
 */
export const generationOf = (service, number) =>
  model.services.get(service)?.generations.find((generation) => generation.number === number);
