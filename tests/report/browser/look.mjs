// Open each page at each width in each color scheme, and print what is wrong and what is there as JSON.
//
// usage: node look.mjs CHROMIUM PAGE.html ...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const WIDTHS = [1400, 390];
const SCHEMES = ["light", "dark"];
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

const [executable, ...files] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");

const state = () => ({
  sections: [...document.querySelectorAll("main > section")].map((section) => section.id),
  figures: Object.fromEntries([...document.querySelectorAll("[data-figure]")].map((entry) => [entry.dataset.figure, entry.value])),
  overflow: document.documentElement.scrollWidth - innerWidth,
  broken: [...document.images].filter((image) => image.complete && !image.naturalWidth).length,
});

// Sort the first table both ways, and ask for the first term.
const use = () => {
  const head = document.querySelector("#layers button.sort"), term = document.querySelector("a.term");
  if (!head) return null;
  const order = () => [...head.closest("table").tBodies[0].rows].map((row) => Number(row.cells[0].dataset.v));
  head.click();
  const up = order();
  head.click();
  const down = order();
  term.focus();
  const tip = document.getElementById("tip");
  return { up, down, tip: tip.hidden ? "" : tip.textContent, meaning: term.dataset.tip };
};

async function* looks(browser, file) {
  const page = await browser.newPage({ reducedMotion: "reduce" });
  const errors = [], requests = [], address = pathToFileURL(file).href;
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) errors.push(message.text()); });
  page.on("pageerror", (problem) => errors.push(problem.message));
  page.on("request", (request) => { if (!request.url().startsWith("data:") && request.url() !== address) requests.push(request.url()); });
  await page.goto(address);
  // The page's own policy allows no script from elsewhere: the checker is evaluated, not added to the page.
  await page.evaluate(axe);
  const used = await page.evaluate(use);
  await page.evaluate(() => { for (const entry of document.querySelectorAll("details")) entry.open = true; });
  for (const width of WIDTHS) {
    for (const scheme of SCHEMES) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme: scheme });
      const checked = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      const faults = checked.violations.map((fault) => `${fault.id}: ${fault.nodes[0].html} (${fault.nodes.length})`);
      yield { file, width, scheme, errors, requests, faults, use: used, ...(await page.evaluate(state)) };
    }
  }
  await page.close();
}

const browser = await chromium.launch({ executablePath: executable, args: ARGUMENTS });
const results = [];
for (const file of files) for await (const found of looks(browser, file)) results.push(found);
await browser.close();
console.log(JSON.stringify(results));
