// Small drawings: the sessions of the last hour as a line, and idle times as bars. Both say in words what they show.

import { attr, draw, el, size, text } from "/dom.js";
import { count, number, span } from "/words.js";

const WIDTH = 240;
const HEIGHT = 40;
const HOUR = 3600_000;

/**
 * A line of the sessions over the last hour.
 * @returns {{root: HTMLElement, update: (points: Array<{at: number, sessions: number}>, sessions: number, now: number) => void}}
 */
export function sparkline() {
  const area = draw("path", { class: "area" });
  const stroke = draw("path", { class: "stroke", "vector-effect": "non-scaling-stroke" });
  const picture = draw(
    "svg",
    { viewBox: `0 -2 ${WIDTH} ${HEIGHT + 4}`, preserveAspectRatio: "none", role: "img" },
    area,
    stroke,
  );
  const most = el("span");
  const root = el(
    "figure",
    { class: "sparkline" },
    el("figcaption", {}, el("span", { text: "Last hour" }), most),
    picture,
  );
  const update = (points, sessions, now) => {
    const all = [...points.filter(({ at }) => at > now - HOUR), { at: now, sessions }];
    const top = Math.max(1, ...all.map((point) => point.sessions));
    const place = ({ at, sessions: value }) =>
      `${(WIDTH * (1 - (now - at) / HOUR)).toFixed(1)} ${(HEIGHT * (1 - value / top)).toFixed(1)}`;
    const route = all.map(place).join("L");
    const from = (WIDTH * (1 - (now - all[0].at) / HOUR)).toFixed(1);
    attr(stroke, "d", `M${route}`);
    attr(area, "d", `M${from} ${HEIGHT}L${route}V${HEIGHT}Z`);
    const peak = Math.max(...all.map((point) => point.sessions));
    text(most, `at most ${number(peak)}`);
    const begin = span((now - all[0].at) / 1000);
    attr(
      picture,
      "aria-label",
      `Sessions: ${number(all[0].sessions)} ${begin} ago, at most ${number(peak)}, now ${number(sessions)}`,
    );
  };
  return { root, update };
}

const short = (seconds) => {
  if (seconds === 0) return "0";
  return seconds < 3600 ? `${seconds / 60}m` : `${seconds / 3600}h`;
};

/**
 * Bars of how many sessions have been idle for how long.
 * @returns {{root: HTMLElement, update: (spread: {idle: Array<{from_seconds: number, sessions: number}>,
 *   longest_idle_seconds?: number}|undefined) => void}}
 */
export function histogram() {
  const bars = el("div", { class: "bars", role: "img" });
  const longest = el("span");
  const scale = el("div", { class: "scale", "aria-hidden": "true" });
  const root = el(
    "figure",
    { class: "histogram" },
    el("figcaption", {}, el("span", { text: "Idle for" }), longest),
    bars,
    scale,
  );
  const update = (spread) => {
    const idle = spread?.idle ?? [];
    while (bars.children.length > idle.length) bars.lastChild.remove();
    while (bars.children.length < idle.length) bars.append(el("i"));
    if (scale.children.length !== idle.length) {
      // Every third bucket is named, or the names would run into each other.
      scale.replaceChildren(
        ...idle.map(({ from_seconds: from }, index) => el("span", { text: index % 3 === 0 ? short(from) : "" })),
      );
    }
    const top = Math.max(1, ...idle.map(({ sessions }) => sessions));
    idle.forEach(({ sessions }, index) => {
      size(bars.children[index], "--size", sessions / top);
      attr(bars.children[index], "class", sessions > 0 ? "some" : undefined);
    });
    const filled = idle
      .map((bucket, index) => ({ ...bucket, to: idle[index + 1]?.from_seconds }))
      .filter(({ sessions }) => sessions > 0);
    const words = filled.map(
      ({ from_seconds: from, to, sessions }) =>
        `${count(sessions, "session")} ${to === undefined ? `${short(from)} or more` : `${short(from)} to ${short(to)}`}`,
    );
    attr(bars, "aria-label", words.length === 0 ? "No session is idle" : `Idle times: ${words.join(", ")}`);
    const known = spread?.longest_idle_seconds;
    text(longest, known === undefined ? "" : `longest ${span(known)}`);
  };
  return { root, update };
}
