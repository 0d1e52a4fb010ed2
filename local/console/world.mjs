// The browser, the running stack, and what all tests have: nobody leaves the console, and no page complains.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

function setting(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: README.md says what it is`);
  return value;
}

export const CONSOLE = setting("CONSOLE_URL");
export const CONSOLE_KEY = setting("CONSOLE_KEY");
export const INGEST_KEY = setting("INGEST_KEY");
const INGEST = setting("INGEST_URL");
const LAMBDA = setting("LAMBDA_URL").replace(/\/$/, "");
const ORIGIN = new URL(CONSOLE).origin;

/** Begins the names of everything that this run makes, so that one run does not see another's. */
export const RUN = `t${randomBytes(4).toString("hex")}`;

const OTHER_TOPIC = "console-test";

const PATIENCE_MS = 90_000;

// The switches keep Chromium from asking for servers of its maker, which a closed network refuses one by one.
const SWITCHES = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
  // Root has no sandbox.
  ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
];

const profile = await mkdtemp(join(tmpdir(), "forebay-console-"));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: SWITCHES,
  env: { ...process.env, HOME: profile },
});
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export async function close() {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}

/**
 * Runs a test in a browser profile of its own. Afterwards, no request may have left the console, and no page may have
 * complained, but for the error statuses, other origins and messages in the browser's log that a test wants.
 */
export async function inBrowser(test, { statuses = [], origins = [], messages = [], ...options } = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(15_000);
  const complaints = [];
  context.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "data:" && ![ORIGIN, ...origins].includes(origin)) complaints.push(`asked for ${request.url()}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 400 && !statuses.includes(response.status())) {
      complaints.push(`${response.url()} answered ${response.status()}`);
    }
  });
  context.on("weberror", (error) => complaints.push(`threw ${error.error()}`));
  context.on("console", (message) => {
    // The answers themselves are looked at above.
    const known = [/^Failed to load resource: the server responded with a status of/, ...messages];
    const isWanted = known.some((pattern) => pattern.test(message.text()));
    if (["error", "warning"].includes(message.type()) && !isWanted) complaints.push(`wrote ${message.text()}`);
  });
  await context.exposeFunction("reportViolation", (text) => complaints.push(`broke its content security policy: ${text}`));
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  try {
    await test(await context.newPage(), context);
    assert.deepEqual(complaints, []);
  } catch (error) {
    for (const page of context.pages()) {
      const text = await page.locator("body").innerText().catch(String);
      console.error(`${page.url()} showed:\n${text.replace(/fb_\w+/g, "a key")}`);
    }
    throw error;
  } finally {
    await context.close();
  }
}

/** The URL of a page of the console: `at("/events", { type: "click" })`. */
export function at(path = "", query = {}) {
  const text = new URLSearchParams(query).toString();
  return `${CONSOLE}${path}${text && "?"}${text}`;
}

export async function signIn(page, key = CONSOLE_KEY) {
  await page.goto(at("/sign-in"));
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** As `inBrowser`, with somebody who is signed in. */
export function signedIn(test, options) {
  return inBrowser(async (page, context) => {
    await signIn(page);
    await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
    await test(page, context);
  }, options);
}

/** Repeats it until it returns something true. */
export async function until(what, attempt) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const result = await attempt();
    if (result) return result;
    assert.ok(Date.now() < deadline, `not within ${PATIENCE_MS / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** Sends an event to ingest and returns its receipt. */
export async function send(event, headers = {}) {
  const answer = await fetch(INGEST, {
    method: "POST",
    headers: { "content-type": "application/json", "x-api-key": INGEST_KEY, ...headers },
    body: JSON.stringify(event),
  });
  const text = await answer.text();
  assert.equal(answer.status, 202, text);
  return JSON.parse(text);
}

async function invoke(name, event) {
  const url = `${LAMBDA}/2015-03-31/functions/${name}/invocations`;
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(event) });
  const text = await answer.text();
  assert.ok(answer.ok && !answer.headers.has("x-amz-function-error"), `${name} answers ${answer.status} ${text}`);
  return JSON.parse(text);
}

/** Counts what was recorded; the stack does so each minute by itself. */
export function aggregate() {
  return invoke("aggregator", { action: "aggregate" });
}

/**
 * Gives the processor records of transactions that break their schema, as if another producer had written them: ingest
 * refuses such events at once.
 */
export async function failEvents(tenant, ids) {
  const encode = (text) => Buffer.from(text).toString("base64");
  // The processor notes how far a topic is, so records that are in no Kafka must not seem to be of a real one.
  const first = Date.now() * 1000;
  const records = ids.map((id, index) => {
    const envelope = {
      envelope: 1, id, id_source: "client", type: "transaction", schema: 1, tenant, received_at: new Date().toISOString(),
      ip: "203.0.113.7", user_agent: "console-test", data: { type: "transaction", id, user_id: "u-1", amount: -1, currency: "EUR" },
    };
    return {
      topic: OTHER_TOPIC, partition: 0, offset: first + index, timestamp: Date.now(), timestampType: "CREATE_TIME",
      key: encode(`${tenant}/${id}`), value: encode(JSON.stringify(envelope)),
      headers: [{ "event-id": [...Buffer.from(id)] }, { "event-type": [...Buffer.from("transaction")] }],
    };
  });
  const { batchItemFailures } = await invoke("processor", {
    eventSource: "aws:kafka",
    eventSourceArn: "arn:aws:kafka:eu-west-1:123456789012:cluster/forebay/6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2",
    bootstrapServers: "broker.example:9098",
    records: { [`${OTHER_TOPIC}-0`]: records },
  });
  assert.deepEqual(batchItemFailures, []);
}

/** What axe-core finds wrong with the page as it is: WCAG 2.2 A and AA, and its best practices. */
export async function violations(page) {
  // Through the debugger's door: the page's policy lets in no foreign script.
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { violations, passes } = await window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"],
      // Off unless named, although its tag is.
      rules: { "target-size": { enabled: true } },
    });
    return {
      checked: passes.map(({ id }) => id),
      wrong: violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}\n${failureSummary}`)),
    };
  });
  for (const rule of ["color-contrast", "document-title", "html-has-lang", "target-size"]) {
    assert.ok(found.checked.includes(rule) || found.wrong.some((text) => text.startsWith(rule)), `axe did not check ${rule}`);
  }
  return found.wrong;
}
