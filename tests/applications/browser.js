// Chromium, driven by lines of JSON. A client is a browser of its own: its cookies, and its tabs.
"use strict";

const { chromium } = require("playwright-core");
const drive = require("./lines.js");

// `acts` says what a user does; each act is given the user: `context` and `tabs`, of which the first is the usual one.
module.exports = async function browse(acts) {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    // Root in a container has no sandbox, and shared memory is scarce there.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
  const open = async (name) => {
    const context = await browser.newContext();
    context.setDefaultTimeout(40_000);
    return { name, context, tabs: [] };
  };
  await drive(open, (user, what) => acts[what](user));
  await browser.close();
};
