// Users of a chat as pomelo's guide builds it, each named "uid@rid": a socket to a connector and one to a chat server, by
// polling at first and then by WebSocket. Nothing here keeps cookies.
"use strict";

const { once } = require("node:events");
const { io } = require("socket.io-client");
const drive = require("../lines.js");

const [url] = process.argv.slice(2);
const ask = (socket, event, ...values) => socket.timeout(30_000).emitWithAck(event, ...values);

async function connect(path, query) {
  const socket = io(url, { path: `${path}/socket.io`, query, reconnection: false, forceNew: true });
  const upgraded = once(socket.io.engine, "upgrade");
  const [refused] = await Promise.race([once(socket, "connect"), once(socket, "connect_error")]);
  if (refused) throw refused;
  await upgraded;
  return socket;
}

// What the server to which the socket leads tells of itself.
async function places(user) {
  const [connector, chat] = await Promise.all([ask(user.connector, "where"), ask(user.chat, "where")]);
  if (connector.by !== "websocket" || chat.by !== "websocket") throw new Error("a socket still polls");
  return { at: chat.at, connector: connector.at };
}

const acts = {
  async enter(user) {
    const { uid, rid } = user;
    [user.connector, user.chat] = await Promise.all([connect("/connector", { uid }), connect("/chat", { rid })]);
    user.chat.on("said", (word) => user.heard.push(word));
    await ask(user.chat, "join", rid);
    return places(user);
  },
  places,
  count: (user) => ask(user.connector, "count"),
  say: (user) => ask(user.chat, "say", user.rid, user.uid),
  // What was said in the room, once there is something.
  async hear(user) {
    if (user.heard.length === 0) await once(user.chat, "said", { signal: AbortSignal.timeout(30_000) });
    return { heard: user.heard.splice(0) };
  },
  // The address that the gate names for this user.
  async gate(user) {
    const answer = await fetch(`${url}/gate?uid=${user.uid}`);
    return answer.json();
  },
  async leave(user) {
    user.connector.disconnect();
    user.chat.disconnect();
    return {};
  },
};

drive(
  (name) => {
    const [uid, rid] = name.split("@");
    return { uid, rid, heard: [] };
  },
  (user, what) => acts[what](user),
).then(() => process.exit());
