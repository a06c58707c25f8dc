// The official Socket.IO client without a browser: it keeps no cookies.
"use strict";

const { once } = require("node:events");
const { io } = require("socket.io-client");
const drive = require("../lines.js");

const [url] = process.argv.slice(2);
const ask = (client, event, ...values) => client.socket.timeout(30_000).emitWithAck(event, ...values);

const acts = {
  open(client) {
    client.socket = io(url, { transports: ["polling"], reconnection: false, forceNew: true });
    return ask(client, "where");
  },
  count: (client) => ask(client, "count"),
  // What a client does by itself if polling is not its only transport; here it is, so that the test says when.
  async upgrade(client) {
    const engine = client.socket.io.engine;
    const upgraded = once(engine, "upgrade");
    engine._probe("websocket");
    await upgraded;
    return ask(client, "where");
  },
  async leave(client) {
    const answer = await ask(client, "where");
    client.socket.disconnect();
    return answer;
  },
};

drive(
  () => ({}),
  (client, what) => acts[what](client),
).then(() => process.exit());
