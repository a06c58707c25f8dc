// The admin page: lets the operator in, follows the gateway, and draws what changed.

import { forget, hasToken, login, onRefused } from "/api.js";
import { tell } from "/dialog.js";
import { attr, button, el, keyed, line, setShape, shape, show, text } from "/dom.js";
import { eventList } from "/events.js";
import { gatewayHead, gatewayTrouble, mark } from "/head.js";
import { clear, intake, model, now, onChange, onNews, remember } from "/model.js";
import { onWidth, Service, standing } from "/service.js";
import { follow } from "/stream.js";
import { clock, number } from "/words.js";

const main = document.getElementById("main");
const head = document.getElementById("head");
const said = document.getElementById("said");
const SHORTCUTS = "tidegate-shortcuts";
let stream = null;
let view = null;
let wanted = false;

// A list of sentences, because a second one must not swallow the first before it is read out.
function announce(sentence) {
  const entry = el("span", { text: `${sentence} ` });
  said.append(entry);
  setTimeout(() => entry.remove(), 10_000);
}

function enter() {
  const top = gatewayHead(head, {
    retry: () => stream.retry(),
    help: shortcuts,
    leave: () => {
      forget();
      gate("You have logged out.");
    },
  });
  const nav = el("nav", { class: "overview", "aria-label": "Services" }, el("ul"));
  const services = el("div", { class: "services" });
  const none = el("p", { class: "quiet-page", text: "Asking the gateway …" });
  const events = eventList();
  main.replaceChildren(top.notices, nav, none, services, events.root);
  show(head, true);
  view = { head: top, nav, services, none, events };
  stream = follow(intake);
  draw();
}

function gate(reason) {
  stream?.stop();
  stream = null;
  view = null;
  clear();
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  document.body.classList.remove("old");
  show(head, false);
  head.replaceChildren();
  document.title = "Log in · Tidegate";
  const command = el("code", { text: "tidegate open", tabindex: "0" });
  const copy = button("Copy", () => copyText(command, copy));
  main.replaceChildren(
    el(
      "div",
      { class: "gate" },
      mark(),
      el("h1", { text: "Tidegate" }),
      reason === "" ? "" : el("p", { class: "reason", text: reason }),
      el("p", { text: "This page opens by a link that works once. On the gateway's machine, run:" }),
      el("p", { class: "command" }, command, copy),
      el("p", {
        class: "soft",
        text: "Then open the link that it prints in this browser. You stay logged in until you close the tab.",
      }),
    ),
  );
  announce(`${reason} To get in, run tidegate open on the gateway's machine.`);
}

async function copyText(node, copy) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    text(copy, "Copied");
  } catch {
    // Without a secure context there is no clipboard: the text is marked, ready for the keyboard.
    getSelection().selectAllChildren(node);
    text(copy, "Press Ctrl-C");
  }
  announce(copy.textContent);
}

async function begin() {
  const code = /^#login=(.+)$/.exec(location.hash)?.[1];
  if (code !== undefined) {
    history.replaceState(null, "", location.pathname);
    stream?.stop();
    try {
      await login(decodeURIComponent(code));
    } catch (problem) {
      // Who is logged in already stays so.
      if (!hasToken()) {
        gate(problem.status === undefined ? "The gateway does not answer. Ask it for another link." : problem.message);
        return;
      }
    }
  }
  if (hasToken()) enter();
  else gate("");
}

function schedule() {
  if (wanted) return;
  wanted = true;
  // A hidden page gets no frames, but its title is still read.
  if (document.hidden) setTimeout(draw, 1_000);
  else requestAnimationFrame(draw);
}

function draw() {
  wanted = false;
  if (view === null) return;
  const all = [...model.services.values()];
  const standings = all.map((service) => ({ service, ...standing(service) }));
  title(standings);
  if (document.hidden) return;
  document.body.classList.toggle("old", model.old);
  view.head.update();
  const waiting = !model.complete;
  line(
    view.none,
    waiting
      ? model.old
        ? "The gateway does not answer. Trying again …"
        : "Asking the gateway …"
      : all.length === 0
        ? "The file has no service."
        : "",
  );
  overview(waiting ? [] : standings);
  view.shown = keyed(
    view.services,
    waiting ? [] : all,
    ({ name }) => name,
    ({ name }) => new Service(name),
  );
  view.events.update();
}

function title(standings) {
  const trouble = gatewayTrouble(model.gateway) + standings.reduce((total, one) => total + one.trouble.length, 0);
  const left = standings.reduce((total, one) => total + one.left, 0);
  const parts = [
    ...(model.old ? ["Connection lost"] : []),
    ...(trouble > 0 ? [`${trouble} in trouble`] : []),
    ...(left > 0 ? [`${number(left)} leaving`] : []),
    "Tidegate",
  ];
  const words = parts.join(" · ");
  if (document.title !== words) document.title = words;
}

// Where there are several services, one line each says how they stand.
function overview(standings) {
  show(view.nav, standings.length > 1);
  if (standings.length < 2) return;
  keyed(
    view.nav.firstChild,
    standings,
    ({ service }) => service.name,
    ({ service: { name } }) => {
      const mark = shape("calm");
      const words = el("span", { class: "soft" });
      const link = el(
        "a",
        {
          href: `#service-${name}`,
          onclick: (event) => {
            event.preventDefault();
            const target = document.getElementById(`service-${name}`);
            target.scrollIntoView();
            target.querySelector("h2").focus({ preventScroll: true });
          },
        },
        mark,
        el("b", { text: name }),
        words,
      );
      const update = ({ service, trouble, left, empty }) => {
        const kind = trouble.length > 0 ? "trouble" : service.maintenance ? "paused" : left > 0 ? "detached" : "calm";
        setShape(mark, kind);
        attr(link, "data-kind", kind);
        const parts = [
          ...(trouble.length > 0 ? [`${trouble.length} in trouble`] : []),
          ...(service.maintenance ? ["maintenance"] : []),
          ...(left > 0
            ? [`${number(left)} leaving${empty === undefined ? "" : `, empty by ${clock(empty, now())}`}`]
            : []),
        ];
        text(words, parts.length > 0 ? parts.join(", ") : "nobody leaving");
      };
      return { root: el("li", {}, link), update };
    },
  );
}

function shortcuts() {
  const on = el("input", {
    type: "checkbox",
    id: "shortcuts-on",
    onchange: () => localStorage.setItem(SHORTCUTS, on.checked ? "on" : "off"),
  });
  on.checked = localStorage.getItem(SHORTCUTS) !== "off";
  const keys = [
    ["?", "this list"],
    ["j", "next generation"],
    ["k", "generation before"],
    ["d", "details of the generation in focus"],
    ["e", "events"],
    ["Esc", "close a dialog"],
  ];
  tell(
    "Keys",
    el(
      "dl",
      { class: "keys" },
      ...keys.map(([key, words]) => el("div", {}, el("dt", {}, el("kbd", { text: key })), el("dd", { text: words }))),
    ),
    el("p", { class: "filter" }, on, el("label", { for: "shortcuts-on", text: "Keys of one letter are on" })),
  );
}

function pressed(event) {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (view === null || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (localStorage.getItem(SHORTCUTS) === "off") return;
  const columns = [...document.querySelectorAll("article.column")];
  const here = columns.findIndex((column) => column.contains(document.activeElement));
  const focus = (column) => {
    column?.querySelector("h3").focus({ preventScroll: true });
    column?.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  if (event.key === "?") shortcuts();
  else if (event.key === "j") focus(columns[Math.min(here + 1, columns.length - 1)]);
  else if (event.key === "k") focus(columns[Math.max(here - 1, 0)]);
  else if (event.key === "d" && here >= 0) columns[here].querySelector("[aria-expanded]").click();
  else if (event.key === "e") {
    document.getElementById("events").scrollIntoView();
    document.getElementById("events").focus({ preventScroll: true });
  }
}

function every() {
  remember();
  if (view === null) return;
  for (const service of view.shown?.values() ?? []) service.ask();
  schedule();
}

onRefused(() => gate("You are logged out: the gateway does not take this login any more."));
onChange(schedule);
onNews(announce);
onWidth(() => {
  for (const service of view?.shown?.values() ?? []) service.seat();
});
document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", schedule);
addEventListener("hashchange", begin);
setInterval(every, 1_000);
begin();
