// What drivers in JavaScript have in common: they read what a client should do, a line of JSON each, and answer each by
// a line.
"use strict";

const { createInterface } = require("node:readline");

// Calls `act(client, what)` one after the other; clients are made by `make(name)` at their first mention.
module.exports = async function drive(make, act) {
  const clients = new Map();
  for await (const line of createInterface({ input: process.stdin })) {
    const { client, what } = JSON.parse(line);
    let answer;
    try {
      if (!clients.has(client)) clients.set(client, await make(client));
      answer = await act(clients.get(client), what);
    } catch (error) {
      answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
};
