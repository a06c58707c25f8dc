// Drives the admin page of a live gateway in a headless browser, as an operator would: rolls a service, steers it, rolls
// back, and looks at every state in light and dark, wide and narrow. Prints a line for each step; ends with 1 at the
// first one that fails.
//
//   PAGE_LINK      the whole one-time link, as `tidegate open` prints it
//   PAGE_MODULES   a folder with node_modules in which playwright-core is installed
//   PAGE_AXE       path of axe.min.js
//   PAGE_SHOTS     folder for screenshots; none are kept without it
//   PAGE_SITE      where the service answers (http://127.0.0.1:8080); sessions of the demo application are opened there.
//                  It belongs to generation 1 alone when this begins, and its workers are the gateway's.
//   PAGE_SESSION   id of a session that is open on generation 1; opened at PAGE_SITE without it
//   PAGE_SERVICE   the service; `app` without it
//   PAGE_BROWSER   the browser; /usr/bin/chromium without it
//   PAGE_PATIENCE  seconds that a step may take; 60 without it

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const need = (name) => {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(2);
  }
  return value;
};
const link = need("PAGE_LINK");
const axe = readFileSync(need("PAGE_AXE"), "utf8");
const { chromium } = createRequire(join(resolve(need("PAGE_MODULES")), "page.cjs"))("playwright-core");
const { PAGE_SHOTS: shots, PAGE_SITE: site, PAGE_SERVICE: name = "app" } = process.env;
const patience = Number(process.env.PAGE_PATIENCE ?? 60) * 1000;
if (shots) mkdirSync(shots, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.PAGE_BROWSER ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce" });
const page = await context.newPage();
page.setDefaultTimeout(patience);
const faults = [];
page.on("pageerror", (error) => faults.push(`an error in the page: ${error.stack}`));
page.on("console", (message) => {
  // What the browser says of answers like 404 and of a cut stream is no fault of the page.
  if (message.type() === "error" && !/^Failed to load resource/.test(message.text()))
    faults.push(`in the console: ${message.text()}`);
});
page.on("request", (request) => {
  if (new URL(request.url()).origin !== new URL(link).origin) faults.push(`asked elsewhere: ${request.url()}`);
});

const check = (holds, sentence) => {
  if (!holds) throw new Error(sentence);
};

let current = "begin";
async function step(words, act) {
  current = words;
  await act();
  check(faults.length === 0, faults.join("\n"));
  console.log(`ok: ${words}`);
}

const service = page.locator(`[data-service="${name}"]`);
const generation = (number) => service.locator(`article[data-generation="${number}"]`);
const dialog = page.locator("dialog[open]");

async function has(locator, state) {
  await locator.and(page.locator(`[data-state="${state}"]`)).waitFor();
}

// Looks at the page as it is: nothing reaches over its edge, and no rule of axe is broken.
async function look(label, { whole = true } = {}) {
  for (const [width, height] of [
    [1280, 900],
    [360, 780],
  ]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      if (shots) await page.screenshot({ path: join(shots, `${label}-${colorScheme}-${width}.png`), fullPage: whole });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      check(over <= 0, `${label}: the page is ${over} px wider than its ${width} px`);
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      const broken = found.violations.filter(({ impact }) => ["moderate", "serious", "critical"].includes(impact));
      check(
        broken.length === 0,
        `${label}, ${colorScheme}, ${width} px: ${broken
          .map(
            ({ id, help, nodes }) =>
              `${id} (${help}) at ${nodes
                .slice(0, 5)
                .map(({ target }) => target.join(" "))
                .join(" | ")}`,
          )
          .join("; ")}`,
      );
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

// Opens a dialog by a button, hands it over, confirms it, and reads what came of it.
async function decide(button, confirm, see = async () => {}) {
  await button.click();
  await dialog.waitFor();
  await see(await dialog.innerText());
  await dialog.getByRole("button", { name: confirm, exact: true }).click();
  await dialog.locator(".outcome .well, .outcome .trouble").first().waitFor();
  const trouble = dialog.locator(".outcome .trouble");
  check((await trouble.count()) === 0, `the gateway refused "${confirm}": ${await trouble.allInnerTexts()}`);
  await dialog.getByRole("button", { name: "Close" }).click();
  await dialog.waitFor({ state: "detached" });
}

// Opens a session of the demo application, and uses it once more, so that it counts as seen more than once.
async function openSession(visitor) {
  check(site, "PAGE_SITE is not set, and a session is needed");
  const answer = await fetch(`${site}/login`, {
    method: "POST",
    redirect: "manual",
    body: `name=${visitor}`,
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
  const cookie = answer.headers
    .getSetCookie()
    .map((line) => line.split(";")[0])
    .find((pair) => pair.includes("session"));
  check(cookie, `logging in at ${site} gave ${answer.status} and no session`);
  await (await fetch(`${site}/`, { headers: { cookie } })).arrayBuffer();
  return cookie.slice(cookie.indexOf("=") + 1);
}

async function main() {
  await step("without a login the page says how to get in", async () => {
    await page.goto(new URL("/", link).href);
    await page.getByText("tidegate open", { exact: true }).waitFor();
    await look("gate");
  });

  const kept = process.env.PAGE_SESSION ?? (await openSession("Ann"));

  await step("the one-time link logs in and leaves no code in the address", async () => {
    await page.goto(link);
    await generation(1).waitFor();
    check(!page.url().includes("login"), `the address still is ${page.url()}`);
    check((await context.cookies()).length === 0, "the page has set a cookie");
  });

  await step("services and generations show, live", async () => {
    await page.locator(".live", { hasText: "Live" }).waitFor();
    await has(generation(1), "active");
    await service.getByText(`New sessions go to ${name}@1`).waitFor();
    await generation(1).locator(".bars i").first().waitFor({ state: "attached" });
    await look("main");
  });

  await step(`the button rolls ${name} to generation 2`, async () => {
    await decide(service.getByRole("button", { name: `Roll ${name}` }), `Roll ${name}`, async (words) => {
      check(words.includes("Ends no session"), `the dialog does not say the cost: ${words}`);
    });
    await has(generation(2), "active");
    await has(generation(1), "detached");
    await service.getByText(`New sessions go to ${name}@2`).waitFor();
    await page.locator(".event-list", { hasText: `${name}@2` }).waitFor();
  });

  await step("the details drain a backend and put it back", async () => {
    await generation(2).getByRole("button", { name: "Details" }).click();
    const row = service.locator("tr[data-backend]").first();
    await row.waitFor();
    const backend = await row.getAttribute("data-backend");
    await row.getByText(/pid \d+/).waitFor();
    await look("details");
    await decide(row.getByRole("button", { name: `Drain ${backend}` }), `Drain ${backend}`);
    await row.and(page.locator('[data-intent="drain"]')).waitFor();
    await decide(row.getByRole("button", { name: `Up ${backend}` }), `Put ${backend} up`);
    await row.and(page.locator('[data-intent="up"]')).waitFor();
    await row.getByRole("button", { name: `Output of ${backend}` }).click();
    await dialog.locator("pre").waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    await service.getByRole("button", { name: "Close details" }).click();
  });

  await step("maintenance goes on and off", async () => {
    await decide(service.getByRole("button", { name: "Maintenance on" }), "Turn maintenance on");
    await service.getByText("Maintenance is on").waitFor();
    await decide(service.getByRole("button", { name: "Maintenance off" }), "Turn maintenance off");
    await service.getByText("Maintenance is on").waitFor({ state: "hidden" });
  });

  // An empty generation would be retired as soon as it is detached.
  if (site) await openSession("Bob");

  await step("the button rolls back to generation 1", async () => {
    if (site) await generation(2).locator(".figure").getByText("0", { exact: true }).waitFor({ state: "detached" });
    await decide(service.getByRole("button", { name: `Roll back to ${name}@1` }), `Roll back to ${name}@1`);
    await has(generation(1), "active");
    await has(generation(2), "detached");
  });

  await step("a session is found by its id, and ended", async () => {
    await service.getByText("Find a session").click();
    const form = service.locator("form");
    await form.locator("input").fill(kept);
    await form.getByRole("button", { name: "Find" }).click();
    await form.getByText(`${name}@1`).waitFor();
    await decide(form.getByRole("button", { name: "End session" }), "End this session", async (words) => {
      check(words.includes("Ends 1 open session"), `the dialog does not say the cost: ${words}`);
    });
    await form.locator("input").fill(kept);
    await form.getByRole("button", { name: "Find" }).click();
    await form.getByText(`No open session of ${name} has this id.`).waitFor();
  });

  await step("the dialog says what retiring generation 2 costs, and retires it", async () => {
    await decide(generation(2).getByRole("button", { name: "Retire now" }), `Retire ${name}@2 now`, async (words) => {
      check(
        /Ends [\d,]+ open sessions?/.test(words) && words.includes(`${name}@1`),
        `the dialog does not say the cost: ${words}`,
      );
      const focused = await page.evaluate(() => document.activeElement?.textContent);
      check(focused === "Cancel", `"${focused}" has the focus, so that a single key would end sessions`);
      await look("retire", { whole: false });
    });
    await generation(2).waitFor({ state: "detached" });
    await service.locator(".past", { hasText: `${name}@2` }).waitFor();
  });

  await step("nothing is kept but the token, for this tab", async () => {
    const stored = await page.evaluate(() => ({
      tab: Object.keys(sessionStorage),
      lasting: Object.keys(localStorage),
    }));
    check(stored.tab.join() === "tidegate-token" && stored.lasting.length === 0, `stored: ${JSON.stringify(stored)}`);
  });

  await step("the keys open a list and move between generations", async () => {
    await page.locator("body").press("?");
    await dialog.getByText("next generation").waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    await page.locator("body").press("j");
    await page.waitForFunction(() => document.activeElement?.closest("article.column") !== null);
  });

  await step("it says when the stream is cut, and goes on afterwards", async () => {
    await context.setOffline(true);
    await page.locator(".live", { hasText: "Connection lost" }).waitFor();
    await page.getByText(/What you see is old/).waitFor();
    await look("old");
    await context.setOffline(false);
    await page.locator(".live", { hasText: "Live" }).waitFor();
  });

  await step("a used link does not log in", async () => {
    const other = await browser.newContext();
    const second = await other.newPage();
    await second.goto(link);
    await second.locator(".gate .reason").waitFor({ timeout: patience });
    await other.close();
  });

  await step("logging out forgets all", async () => {
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByText("tidegate open", { exact: true }).waitFor();
    check((await page.evaluate(() => sessionStorage.length)) === 0, "the token is still stored");
  });
}

try {
  await main();
} catch (error) {
  console.error(`failed: ${current}\n${error.message}`);
  if (shots) await page.screenshot({ path: join(shots, "failed.png"), fullPage: true }).catch(() => {});
  process.exitCode = 1;
} finally {
  await browser.close();
}
