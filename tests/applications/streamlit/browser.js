// Users of the Streamlit application in a browser.
"use strict";

const { readFile } = require("node:fs/promises");
const browse = require("../browser.js");

const [url] = process.argv.slice(2);

// What the page shows: once it says `count`, where that is given.
async function read(user, count = "\\d+") {
  const tab = user.tabs[0];
  const text = await tab.getByText(new RegExp(`^\\w+ has counted to ${count}$`)).textContent();
  const [, at, seen] = text.match(/^(\w+) has counted to (\d+)$/);
  if ((await tab.title()) !== at) throw new Error(`${at} is shown under the title ${await tab.title()}`);
  return { at, count: Number(seen) };
}

const open = async (user) => {
  const tab = await user.context.newPage();
  user.tabs.unshift(tab);
  await tab.goto(url);
  return read(user);
};

const acts = {
  open,
  // Another tab of the same browser: a session of its own for Streamlit.
  tab: open,
  async count(user) {
    const { count } = await read(user);
    await user.tabs[0].getByRole("button", { name: "count" }).click();
    return read(user, count + 1);
  },
  // A file goes up by a request of its own and is read in the session.
  async upload(user) {
    const size = 1000 + Math.floor(Math.random() * 9000);
    const file = { name: "work.txt", mimeType: "text/plain", buffer: Buffer.alloc(size, "x") };
    await user.tabs[0].locator("input[type=file]").setInputFiles(file);
    await user.tabs[0].getByText(`has read ${size} bytes`).waitFor();
    return read(user);
  },
  // A file that the session made comes down by a request of its own.
  async download(user) {
    const { at, count } = await read(user);
    const [download] = await Promise.all([
      user.tabs[0].waitForEvent("download"),
      user.tabs[0].getByRole("button", { name: "download" }).click(),
    ]);
    const text = await readFile(await download.path(), "utf8");
    if (text !== `written by ${at} at ${count}`) throw new Error(`the file reads: ${text}`);
    return { at, count };
  },
  // Closes the newest tab.
  async close(user) {
    const answer = await read(user);
    await user.tabs.shift().close();
    return answer;
  },
  async leave(user) {
    const answer = await read(user);
    await Promise.all(user.tabs.splice(0).map((tab) => tab.close()));
    return answer;
  },
};

browse(acts);
