// Puts numbers, times and costs into words.

const numbers = new Intl.NumberFormat("en");
const plurals = { work: "pieces of unfinished work", "request in flight": "requests in flight" };

/**
 * A number with thousands set apart.
 * @param {number} value the number
 * @returns {string} such as `1,204`
 */
export const number = (value) => numbers.format(value);

const brief = new Intl.NumberFormat("en", { notation: "compact" });

/**
 * A round number in little room.
 * @param {number} value the number
 * @returns {string} such as `50K`
 */
export const short = (value) => brief.format(value);

/**
 * A count with its noun.
 * @param {number} value how many
 * @param {string} noun in the singular
 * @returns {string} such as `1 session` or `1,204 sessions`
 */
export function count(value, noun) {
  const one = noun === "work" ? "piece of unfinished work" : noun;
  return `${number(value)} ${value === 1 ? one : (plurals[noun] ?? `${noun}s`)}`;
}

/**
 * Joins parts of a sentence.
 * @param {string[]} parts at least one
 * @returns {string} such as `a, b and c`
 */
export function list(parts) {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/**
 * A span of time in its two largest units.
 * @param {number} seconds less than none counts as none
 * @returns {string} such as `3m 12s`
 */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [
    Math.floor(whole / 86400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
  ];
  if (days > 0) return `${days}d ${hours}h`;
  if (hours > 0) return `${hours}h ${minutes}m`;
  return minutes > 0 ? `${minutes}m ${whole % 60}s` : `${whole}s`;
}

/**
 * A time of day, with its day unless that is today.
 * @param {number} at milliseconds since 1970
 * @param {number} now the same, of now
 * @param {boolean} [seconds] whether to show them
 * @returns {string} such as `14:32` or `Tue 14:32`, and with the date beyond six days
 */
export function clock(at, now, seconds = false) {
  const moment = new Date(at);
  const time = moment.toLocaleTimeString("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: seconds ? "2-digit" : undefined,
    hourCycle: "h23",
  });
  if (moment.toDateString() === new Date(now).toDateString()) return time;
  const near = Math.abs(at - now) < 6 * 86400_000;
  const day = near ? { weekday: "short" } : { day: "numeric", month: "short", year: "numeric" };
  return `${moment.toLocaleDateString("en-GB", day)} ${time}`;
}

/**
 * What is open on a generation or a backend, in words.
 * @param {{sessions: number, unconfirmed?: number, requests: number, tunnels: number, work?: number}} held its counts
 * @returns {string} empty when nothing is open
 */
export function held({ sessions, unconfirmed = 0, requests, tunnels, work = 0 }) {
  const parts = [];
  if (sessions > 0) {
    const once = unconfirmed > 0 ? ` (${number(unconfirmed)} seen once)` : "";
    parts.push(`${number(sessions)} open session${sessions === 1 ? "" : "s"}${once}`);
  }
  if (tunnels > 0) parts.push(count(tunnels, "tunnel"));
  if (requests > 0) parts.push(count(requests, "request in flight"));
  if (work > 0) parts.push(count(work, "work"));
  return list(parts);
}

/**
 * How much an act would end, as one number: none means that nobody notices.
 * @param {{sessions: number, requests: number, tunnels: number, work?: number}} counts of what it ends
 * @returns {number} their sum
 */
export const weight = ({ sessions, requests, tunnels, work = 0 }) => sessions + requests + tunnels + work;

/**
 * A sum of counts over generations.
 * @param {Array<Record<string, number>>} things each with the count
 * @param {string} name of the count
 * @returns {number} the sum
 */
export const sum = (things, name) => things.reduce((total, thing) => total + (thing[name] ?? 0), 0);
