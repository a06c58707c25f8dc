// Asks the admin API. The token lives as long as the tab and goes out as a bearer token only.

const KEY = "tidegate-token";
let token = sessionStorage.getItem(KEY);
let refused = () => {};

/** An answer that is an error: `status`, and in `message` a sentence for people. `cost` and `report` where there are. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `The gateway answered ${status}.`);
    this.status = status;
    this.cost = body.cost;
    this.report = body.report;
  }
}

/** @returns {boolean} whether there is a token to ask with */
export const hasToken = () => token !== null;

/** Forgets the token. */
export function forget() {
  token = null;
  sessionStorage.removeItem(KEY);
}

/**
 * Says whom to tell when the gateway does not take the token any more.
 * @param {() => void} listener called after the token is forgotten
 */
export function onRefused(listener) {
  refused = listener;
}

/**
 * Trades the code of a one-time link for a token and keeps it.
 * @param {string} code from the link
 * @throws {Problem} when the code is unknown, used or too old
 */
export async function login(code) {
  const answer = await send("POST", "/v1/login", { code });
  token = (await answer.json()).token;
  sessionStorage.setItem(KEY, token);
}

/**
 * Asks and reads the answer.
 * @param {string} method such as `GET`
 * @param {string} path below the admin address
 * @param {object} [body] sent as JSON
 * @param {{headers?: Record<string, string>, signal?: AbortSignal}} [more] what else to send
 * @returns {Promise<any>} the JSON of the answer
 * @throws {Problem} when the gateway says no
 * @throws {TypeError} when it does not answer
 */
export async function call(method, path, body, more) {
  const answer = await send(method, path, body, more);
  return (answer.headers.get("content-type") ?? "").includes("json") ? answer.json() : {};
}

/**
 * Asks and hands out the answer as it is, for streams.
 * @param {string} method as in `call`
 * @param {string} path as in `call`
 * @param {object} [body] as in `call`
 * @param {{headers?: Record<string, string>, signal?: AbortSignal}} [more] as in `call`
 * @returns {Promise<Response>} an answer that is no error
 * @throws {Problem} as in `call`
 */
export async function send(method, path, body, { headers = {}, signal } = {}) {
  const own = token === null ? {} : { authorization: `Bearer ${token}` };
  if (body !== undefined) own["content-type"] = "application/json";
  const asked = token;
  const answer = await fetch(path, {
    method,
    signal,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    headers: { ...own, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.ok) return answer;
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  if (answer.status === 401 && asked !== null && asked === token) {
    forget();
    refused();
  }
  throw problem;
}

/**
 * A path of the API with its parts escaped.
 * @param {...(string|number)} parts such as `"services", "app", "generations", 7`
 * @returns {string} such as `/v1/services/app/generations/7`
 */
export const path = (...parts) => `/v1/${parts.map((part) => encodeURIComponent(part)).join("/")}`;

/**
 * A key by which the gateway tells a repeated request from a second one. Does not need a secure context.
 * @returns {string} 128 random bits in hex
 */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
