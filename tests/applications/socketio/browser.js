// Users of the Socket.IO application in a browser.
"use strict";

const browse = require("../browser.js");

const [url, transports] = process.argv.slice(2);

// Sends an event and waits for its acknowledgement; what is sent before the socket is connected waits until then.
const ask = (tab, event, ...values) =>
  tab.evaluate(([event, values]) => socket.timeout(30_000).emitWithAck(event, ...values), [event, values]);

const open = async (user) => {
  const tab = await user.context.newPage();
  await tab.goto(`${url}/?${transports}`);
  user.tabs.push(tab);
  return ask(tab, "join", user.name);
};

const acts = {
  open,
  tab: open,
  count: (user) => ask(user.tabs[0], "count"),
  // Comes back when the socket talks by WebSocket.
  async upgrade(user) {
    await user.tabs[0].waitForFunction(() => socket.io.engine.transport.name === "websocket");
    return ask(user.tabs[0], "where");
  },
  // Every tab says a word, and all others hear it.
  async talk(user) {
    for (const [index, tab] of user.tabs.entries()) {
      await ask(tab, "say", user.name, index);
      const others = user.tabs.filter((other) => other !== tab);
      await Promise.all(others.map((other) => other.waitForFunction((word) => heard.includes(word), index)));
    }
    await Promise.all(user.tabs.map((tab) => tab.evaluate(() => heard.splice(0))));
    return ask(user.tabs[0], "where");
  },
  // Closes the newest tab.
  async close(user) {
    const tab = user.tabs.pop();
    const answer = await ask(tab, "where");
    await tab.close();
    return answer;
  },
  async leave(user) {
    const answer = await ask(user.tabs[0], "where");
    await Promise.all(user.tabs.splice(0).map((tab) => tab.close()));
    return answer;
  },
};

browse(acts);
