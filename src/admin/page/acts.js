// What an operator can do, each with a dialog that says what it costs.

import { call, freshKey, path } from "/api.js";
import { ask, failure, tell } from "/dialog.js";
import { el, show } from "/dom.js";
import { generationOf, model } from "/model.js";
import { count, held, weight } from "/words.js";

const activeOf = (service) => model.services.get(service)?.active;

/**
 * What ending a generation or backend by force costs, as a sentence.
 * @param {string} where such as `app@7`
 * @param {object} counts what is open there
 * @param {string} after what becomes of those who are cut off
 * @returns {Array<Array<string|[string]>>} sentences for `rich`
 */
function costs(where, counts, after) {
  const open = held(counts);
  return open === ""
    ? [[`Nothing is open on ${where}: this ends nothing.`]]
    : [["Ends ", [open], ` on ${where}. ${after}`]];
}

// What stays when a generation is detached rather than ended.
function stays(service, number) {
  const generation = number === undefined ? undefined : generationOf(service, number);
  if (!generation) return [];
  const name = `${service}@${number}`;
  return generation.sessions === 0
    ? [`${name} has no open session.`]
    : [
        `${name} is detached: its `,
        [count(generation.sessions, "open session")],
        ` ${generation.sessions === 1 ? "stays" : "stay"} on it until ${generation.sessions === 1 ? "it ends" : "they end"}.`,
      ];
}

const FREE = ["Ends no session."];

/**
 * Ends a detached generation by force.
 * @param {string} service its service
 * @param {number} number its number
 */
export function retire(service, number) {
  const name = `${service}@${number}`;
  const facts = () => {
    const generation = generationOf(service, number);
    if (!generation || generation.state !== "detached") {
      return { say: [], stop: `${name} is ${generation?.state ?? "gone"} by now: there is nothing to do.` };
    }
    const active = activeOf(service);
    const next =
      weight(generation) === (generation.work ?? 0)
        ? ""
        : generation.sessions === 1
          ? "Its next request goes"
          : "Their next requests go";
    const after =
      next === "" ? "" : active === undefined ? "Nothing is active to take them." : `${next} to ${service}@${active}.`;
    const say = costs(name, generation, after);
    if (generation.sessions > 0) say.push(["What these users have not saved is lost."]);
    if (generation.unsure) say.push(["Sessions may be open that are not counted yet. They would be ended too."]);
    return { say, weight: weight(generation) + (generation.unsure ? 1 : 0) };
  };
  ask({
    title: `Retire ${name} now?`,
    confirm: `Retire ${name} now`,
    danger: true,
    facts,
    act: (agreed) =>
      call("POST", path("services", service, "generations", number, "retire"), agreed ? { now: true } : {}),
  });
}

/**
 * Makes an older or younger generation active again.
 * @param {string} service its service
 * @param {number} number its number
 */
export function rollback(service, number) {
  const name = `${service}@${number}`;
  const facts = () => {
    const generation = generationOf(service, number);
    if (generation?.state !== "detached") return { say: [], stop: `${name} is ${generation?.state ?? "gone"} by now.` };
    return {
      say: [FREE, [`New sessions go to ${name} again.`], stays(service, activeOf(service))].filter(
        (say) => say.length > 0,
      ),
    };
  };
  ask({
    title: `Roll ${service} back to ${name}?`,
    confirm: `Roll back to ${name}`,
    facts,
    act: () => call("POST", path("services", service, "generations", number, "rollback")),
  });
}

/**
 * Makes a generation active that is ready.
 * @param {string} service its service
 * @param {number} number its number
 */
export function promote(service, number) {
  const name = `${service}@${number}`;
  const facts = () => {
    const generation = generationOf(service, number);
    if (generation?.state !== "ready") return { say: [], stop: `${name} is ${generation?.state ?? "gone"} by now.` };
    return {
      say: [FREE, [`All new sessions go to ${name}.`], stays(service, activeOf(service))].filter(
        (say) => say.length > 0,
      ),
    };
  };
  ask({
    title: `Promote ${name}?`,
    confirm: `Promote ${name}`,
    facts,
    act: () => call("POST", path("services", service, "generations", number, "promote")),
  });
}

/**
 * Gives a generation up that is starting, or ends the ramp of one that is ready.
 * @param {string} service its service
 * @param {number} number its number
 */
export function detach(service, number) {
  const name = `${service}@${number}`;
  const facts = () => {
    const generation = generationOf(service, number);
    const active = activeOf(service);
    const rest = active === undefined ? "No generation is active then." : `New sessions go to ${service}@${active}.`;
    if (generation?.state === "starting") return { say: [FREE, [`Gives ${name} up, which is starting. ${rest}`]] };
    if (generation?.state !== "ready") return { say: [], stop: `${name} is ${generation?.state ?? "gone"} by now.` };
    return { say: [FREE, stays(service, number), [rest]] };
  };
  ask({
    title: `Detach ${name}?`,
    confirm: `Detach ${name}`,
    facts,
    act: () => call("POST", path("services", service, "generations", number, "detach")),
  });
}

/**
 * Brings the next generation of a service up.
 * @param {string} service its service; the gateway runs its workers
 */
export function roll(service) {
  const key = freshKey();
  const facts = () => {
    const overview = model.services.get(service);
    if (!overview) return { say: [], stop: `${service} is gone by now.` };
    const newest = overview.generations.find(({ state }) => state !== "retired");
    if (newest?.state === "starting") {
      return { say: [FREE, [`A roll is under way: ${service}@${newest.number} is starting. This waits for it.`]] };
    }
    const begin =
      newest?.state === "failed"
        ? `Tries ${service}@${newest.number} again, which failed.`
        : "Starts the next generation with new workers.";
    const active = overview.active === undefined ? undefined : generationOf(service, overview.active);
    const say = [FREE, [`${begin} When it is ready, it takes the new sessions.`]];
    if (active?.sessions > 0) {
      say.push([
        `${service}@${active.number} is detached then: its `,
        [count(active.sessions, "open session")],
        ` ${active.sessions === 1 ? "stays" : "stay"} on it.`,
      ]);
    }
    return { say };
  };
  ask({
    title: `Roll ${service}?`,
    confirm: `Roll ${service}`,
    facts,
    act: () => call("POST", path("services", service, "roll"), undefined, { headers: { "idempotency-key": key } }),
  });
}

/**
 * Turns maintenance of a service on or off.
 * @param {string} service its name
 * @param {boolean} on what it is to be
 */
export function maintenance(service, on) {
  const word = on ? "on" : "off";
  const facts = () => {
    const overview = model.services.get(service);
    if (!overview) return { say: [], stop: `${service} is gone by now.` };
    const open = overview.generations.reduce((total, { sessions }) => total + sessions, 0);
    if (!on) return { say: [FREE, ["New sessions are taken again."]] };
    const say = [["Turns ", ["every new session"], ` of ${service} away, until maintenance is off again.`]];
    say.push(
      open === 0
        ? ["No session is open."]
        : ["The ", [count(open, "open session")], ` ${open === 1 ? "goes" : "go"} on.`],
    );
    return { say };
  };
  ask({
    title: `Turn maintenance of ${service} ${word}?`,
    confirm: `Turn maintenance ${word}`,
    facts,
    act: () => call("POST", path("services", service, "maintenance"), { on }),
  });
}

/**
 * Changes what is wanted of a backend.
 * @param {string} service its service
 * @param {number} number its generation
 * @param {() => object|undefined} find the backend as it was last told
 * @param {string} name the backend
 * @param {"up"|"drain"|"down"} intent what is wanted
 * @param {() => void} done called after it was done
 */
export function backend(service, number, find, name, intent, done) {
  const where = `${name} of ${service}@${number}`;
  const facts = () => {
    const found = find();
    if (!found) return { say: [], stop: `${where} is gone by now.` };
    if (intent === "up") return { say: [FREE, [`${where} takes new sessions again, when its generation does.`]] };
    if (intent === "drain") {
      const rest =
        found.sessions === 0
          ? [`${where} has no open session.`]
          : ["Its ", [count(found.sessions, "open session")], ` ${found.sessions === 1 ? "stays" : "stay"}.`];
      return { say: [FREE, [`${where} takes no new sessions.`], rest] };
    }
    const say = costs(
      where,
      found,
      found.sessions > 0 ? "These sessions are lost; their next requests begin new ones elsewhere." : "",
    );
    say.push(["It takes nothing until it is up again."]);
    return { say, weight: weight(found) };
  };
  const confirm = { up: `Put ${name} up`, drain: `Drain ${name}`, down: `Take ${name} down` }[intent];
  return ask({
    title: `${confirm}?`,
    confirm,
    danger: intent === "down",
    facts,
    done,
    act: (agreed) =>
      call(
        "POST",
        path("services", service, "generations", number, "backends", name, intent),
        agreed && intent === "down" ? { now: true } : {},
      ),
  });
}

/**
 * Ends one session.
 * @param {object} found the answer of `sessions/find`
 * @param {string} id its id; it goes into the request and nowhere else
 * @param {() => void} done called after it was done
 */
export function endSession(found, id, done) {
  const where = `${found.service}@${found.generation}`;
  ask({
    title: "End this session?",
    confirm: "End this session",
    danger: true,
    done,
    facts: () => {
      const active = activeOf(found.service);
      const next = active === undefined ? "" : ` Its next request goes to ${found.service}@${active}.`;
      return {
        say: [
          ["Ends ", ["1 open session"], ` on ${where}, ${found.backend}.${next}`],
          ["What this user has not saved is lost."],
        ],
        weight: 1,
      };
    },
    act: () => call("POST", path("services", found.service, "sessions", "end"), { id }),
  });
}

/** Asks what a reload would change, shows that, and reloads when it is confirmed. */
export function reload() {
  const plan = el("div", { class: "plan", role: "status" }, el("p", { text: "Reading the file …" }));
  let stop;
  let many;
  const question = ask({
    title: "Reload the configuration?",
    more: [plan],
    confirm: () => (many > 0 ? `Reload with ${count(many, "change")}` : "Reload"),
    facts: () => ({ say: [], stop, wait: many === undefined }),
    act: async () => {
      const { changes = [], notes = [] } = await call("POST", path("reload"), {});
      return { changes: [...changes, ...notes] };
    },
  });
  const items = (sentences) => el("ul", {}, ...sentences.map((sentence) => el("li", { text: sentence })));
  call("POST", path("reload"), { dry_run: true })
    .then(
      ({ changes = [], notes = [] }) => {
        many = changes.length;
        plan.replaceChildren(
          el("p", { text: many === 0 ? "The file changes nothing." : "A reload would make these changes:" }),
        );
        if (many > 0) plan.append(items(changes));
        if (notes.length > 0) plan.append(el("p", { text: "To be known:" }), items(notes));
      },
      (problem) => {
        stop = "The file cannot be taken over. The configuration in force stays.";
        plan.replaceChildren(...failure(problem));
      },
    )
    .finally(() => {
      if (plan.isConnected) question.refresh();
    });
}

/**
 * Shows the last lines that a worker printed, and goes on showing them while they are looked at.
 * @param {string} service its service
 * @param {number} number its generation
 * @param {string} name its backend
 */
export function output(service, number, name) {
  const lines = el("pre", { class: "report", tabindex: "0", role: "region", "aria-label": "Lines", text: "Reading …" });
  const fault = el("div", {});
  const dialog = tell(`Last output of ${name}`, fault, lines);
  dialog.classList.add("wide");
  const read = async () => {
    try {
      const answer = await call("GET", path("services", service, "generations", number, "backends", name, "output"));
      const wanted = answer.lines.length === 0 ? "It has printed nothing." : answer.lines.join("\n");
      const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 4;
      if (lines.textContent !== wanted) lines.textContent = wanted;
      if (atEnd) lines.scrollTop = lines.scrollHeight;
      fault.replaceChildren();
    } catch (problem) {
      fault.replaceChildren(...failure(problem));
      show(lines, lines.textContent !== "Reading …");
    }
    if (dialog.open) setTimeout(read, 2_000);
  };
  read();
}
