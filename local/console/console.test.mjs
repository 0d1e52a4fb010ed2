// Operators at work: the pages of the console in a real browser, over a running stack. README.md says how to run them.
import assert from "node:assert/strict";
import { randomBytes, randomInt } from "node:crypto";
import { mkdir, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  aggregate, at, close, CONSOLE, CONSOLE_KEY, failEvents, inBrowser, INGEST_KEY, RUN, send, signedIn, signIn, until, violations,
} from "./world.mjs";

after(close);

const COOKIE = "forebay-console";
const heading = (page, name) => page.getByRole("heading", { name, level: 1 });
const section = (page, name) => page.getByRole("navigation", { name: "Console" }).getByRole("link", { name, exact: true });
const click = (campaign, user, more = {}) => ({ type: "click", campaign_id: campaign, user_id: user, ...more });

/** The row of a table that a row header names. */
const row = (page, name) => page.getByRole("row").filter({ has: page.getByRole("rowheader", { name, exact: true }) });

/** The audit trail has these actions of the one who is signed in, about what is named. */
async function inTrail(page, actions, about) {
  const operator = await page.locator(".sign-out strong").innerText();
  await section(page, "Audit trail").click();
  await heading(page, "Audit trail").waitFor();
  const entries = page.getByRole("row").filter({ hasText: about })
    .filter({ has: page.getByRole("cell", { name: `console ${operator} (` }) });
  for (const action of actions) {
    const done = entries.filter({ has: page.getByRole("cell", { name: action, exact: true }) });
    assert.equal(await done.count(), 1, `the audit trail has ${action} of ${about}`);
  }
}

/** Finds the user's events, as soon as there are so many. */
async function search(page, user, count = 1) {
  await until(`${count} events of ${user}`, async () => {
    await page.goto(at("/events", { user_id: user }));
    return (await page.getByRole("link").filter({ hasText: `${user}-` }).count()) === count;
  });
}

test("a wrong key, and one that may not operate, are refused in words", () =>
  inBrowser(async (page, context) => {
    for (const [key, words] of [["not a key", /key/i], [INGEST_KEY, /operate/]]) {
      await signIn(page, key);
      const notice = page.getByRole("alert");
      assert.match(await notice.innerText(), words);
      await heading(page, "Sign in").waitFor();
      assert.deepEqual(await context.cookies(CONSOLE), []);
    }
  }, { statuses: [401, 403] }));

test("signing in leads to the page that was asked for, and signing out ends the session", () =>
  inBrowser(async (page, context) => {
    await page.goto(at("/events", { type: "click" }));
    await heading(page, "Sign in").waitFor();
    await page.getByLabel("API key").fill(CONSOLE_KEY);
    await page.getByRole("button", { name: "Sign in" }).click();
    await heading(page, "Events").waitFor();
    assert.equal(page.url(), at("/events", { type: "click" }));

    const [cookie, ...others] = await context.cookies(CONSOLE);
    assert.deepEqual(others, []);
    const { name, httpOnly, sameSite, path } = cookie;
    assert.deepEqual({ name, httpOnly, sameSite, path }, { name: COOKIE, httpOnly: true, sameSite: "Strict", path: "/" });
    assert.equal(await page.evaluate(() => document.cookie), "");
    assert.ok(!(await page.content()).includes(CONSOLE_KEY));

    await page.getByRole("button", { name: "Sign out" }).click();
    await heading(page, "Sign in").waitFor();
    assert.deepEqual(await context.cookies(CONSOLE), []);
    await page.goto(at("/events"));
    await heading(page, "Sign in").waitFor();
  }));

test("an event is found, and its timeline has its trace and its outcome", async () => {
  const user = `${RUN}-find`;
  const trace = randomBytes(16).toString("hex");
  await send({ ...click(RUN, user), id: `${user}-1` }, { traceparent: `00-${trace}-00f067aa0ba902b7-01` });
  await send({ type: "impression", campaign_id: RUN, user_id: user, id: `${user}-2` });
  await signedIn(async (page) => {
    await search(page, user, 2);
    await page.getByRole("textbox", { name: "Type", exact: true }).fill("click");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByRole("status").filter({ hasText: /^1 event\b/ }).waitFor();
    assert.equal(await page.getByRole("textbox", { name: "User", exact: true }).inputValue(), user);
    const found = row(page, `${user}-1`);
    assert.ok((await found.innerText()).includes(trace));

    await found.getByRole("link").click();
    await page.getByRole("heading", { name: `Event ${user}-1` }).waitFor();
    assert.equal(await page.getByText("Status:").innerText(), "Status: valid");
    const recorded = page.getByRole("listitem").filter({ has: page.getByRole("heading", { name: "Recorded" }) });
    const terms = await recorded.locator("dt").allInnerTexts();
    const values = await recorded.locator("dd").allInnerTexts();
    assert.equal(values[terms.indexOf("Outcome")], "valid");
    assert.equal(values[terms.indexOf("Trace")], trace);

    await page.goto(at("/events"));
    await page.getByLabel("Find by id").fill(`${user}-2`);
    await page.getByRole("button", { name: "Find" }).click();
    await page.getByRole("heading", { name: `Event ${user}-2` }).waitFor();
  });
});

test("a group of dead letters is tried out, then sent again", async () => {
  // A tenant of their own, so that the letters of others are not sent.
  const tenant = `${RUN}-letters`;
  await failEvents(tenant, [`${RUN}-bad-1`, `${RUN}-bad-2`]);
  await signedIn(async (page) => {
    const group = page.getByRole("region", { name: "schema-violation", exact: true });
    const figures = async () => Object.fromEntries(
      await group.locator(".figures div").evaluateAll((pairs) => pairs.map((pair) => [...pair.children].map((part) => part.textContent))),
    );
    await section(page, "Dead letters").click();
    await page.getByLabel("Tenant").fill(tenant);
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByRole("status").filter({ hasText: "2 dead letters" }).waitFor();
    assert.deepEqual(await figures(), { Letters: "2", Open: "2", "Under way": "0", "Sent again": "0", Parked: "0" });
    await group.getByText("Examples of schema-violation").click();
    assert.match(await row(page, `${RUN}-bad-1`).innerText(), /amount/);

    await group.getByRole("button", { name: "Try out sending 2 again" }).click();
    await page.getByText("2 letters would be sent again").waitFor();
    await page.goto(at("/dead-letters", { tenant }));
    assert.equal((await figures())["Sent again"], "0");

    await group.getByRole("button", { name: "Try out sending 2 again" }).click();
    await page.getByRole("button", { name: "Send 2 letters again now" }).click();
    await page.getByText(/^2 letters sent again/).waitFor();
    // They fail again, as new letters.
    await until("both letters count as sent again, and failed again", async () => {
      await page.goto(at("/dead-letters", { tenant }));
      const { "Sent again": again, Open: open } = await figures();
      return again === "2" && open === "2";
    });

  });
});

test("an address is blocked, asked about, and taken off the list", () =>
  signedIn(async (page) => {
    // Of the range for measurements between networks, where nobody else is.
    const address = `198.18.${randomInt(256)}.${randomInt(256)}`;
    await section(page, "Blocks").click();
    await page.getByLabel("Address or range").fill(address);
    await page.getByLabel("Reason").fill(`a reason of ${RUN}`);
    await page.getByLabel("For hours").fill("2");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByRole("status").filter({ hasText: "is on the list" }).waitFor();
    const entry = row(page, address);
    assert.match(await entry.innerText(), new RegExp(`a reason of ${RUN}`));

    const ask = async () => {
      await page.getByLabel("Is this address blocked?").fill(address);
      await page.getByRole("button", { name: "Ask" }).click();
      await page.waitForURL(/address=/);
      return page.getByRole("status").first().innerText();
    };
    assert.match(await ask(), new RegExp(`is blocked.*a reason of ${RUN}`));
    await entry.getByRole("button", { name: /^Remove/ }).click();
    await page.getByRole("status").filter({ hasText: "is off the list" }).waitFor();
    assert.equal(await entry.count(), 0);
    assert.match(await ask(), /is not blocked/);
    await inTrail(page, ["block", "unblock"], address);
  }));

test("a key is made, shown once, rotated and revoked, and the audit trail says by whom", () =>
  signedIn(async (page) => {
    const name = `${RUN}-key`;
    const rows = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name, exact: true }) });
    const states = async () => (await rows.locator("td:nth-of-type(6)").allInnerTexts()).sort();
    const secret = page.locator(".secret");
    await section(page, "API keys").click();
    await page.getByText("Make a key").click();
    const form = page.locator("form").filter({ has: page.getByRole("button", { name: "Make the key" }) });
    await form.getByLabel("Tenant").fill(`${RUN}-keys`);
    await form.getByLabel("Name").fill(name);
    await form.getByRole("checkbox", { name: "operate" }).check();
    await form.getByRole("button").click();
    const first = await secret.innerText();
    assert.match(first, /^fb_server_/);

    await page.getByRole("link", { name: "All keys" }).click();
    await rows.waitFor();
    assert.ok(!(await page.content()).includes(first), "the key is shown once only");
    assert.deepEqual(await states(), ["valid"]);
    assert.match(await rows.innerText(), /operate/);
    const hashOf = (row) => row.getAttribute("data-key");
    const old = await hashOf(rows);
    await rows.getByText(`Change ${name}`).click();
    await rows.getByRole("button", { name: "Rotate" }).click();
    const second = await secret.innerText();
    assert.match(second, /^fb_server_/);
    assert.notEqual(first, second);
    await page.getByRole("link", { name: "All keys" }).click();
    await rows.first().waitFor();
    // The old one works for some hours more.
    assert.deepEqual(await states(), ["valid", "valid"]);
    const hashes = await Promise.all((await rows.all()).map(hashOf));
    const [current] = hashes.filter((hash) => hash !== old);

    await inBrowser(async (other) => {
      await signIn(other, second);
      await heading(other, "Overview").waitFor();
      for (const hash of [old, current]) {
        const key = page.locator(`[data-key="${hash}"]`);
        await key.getByText(`Change ${name}`).click();
        await key.getByRole("button", { name: "Revoke now" }).click();
        await page.getByText(`The key ${name} of ${RUN}-keys is revoked`).waitFor();
      }
      assert.deepEqual(await states(), ["revoked", "revoked"]);
      await until("the session of the revoked key ends", async () => {
        await other.goto(at("/events"));
        return (await other.getByRole("heading", { level: 1 }).innerText()) === "Sign in";
      });
    });

    await inTrail(page, ["create-key"], name);
    await inTrail(page, ["rotate-key", "revoke-key"], old);
    await inTrail(page, ["revoke-key"], current);
    for (const key of [first, second]) assert.ok(!(await page.content()).includes(key), "no key is in the audit trail");
  }));

/** The numbers of a campaign's page, once it has so many events, and how its chart looks. */
async function campaign(page, name, events) {
  await until(`${events} events of campaign ${name}`, async () => {
    await aggregate();
    await page.goto(at("/campaigns", { campaign: name }));
    const figure = page.locator(".figures div").filter({ hasText: "Events" }).locator("dd");
    return (await figure.count()) === 1 && (await figure.innerText()) === String(events);
  });
  await page.getByText("The numbers of this chart").click();
  const cells = await page.getByRole("region", { name: "Events by type" }).getByRole("cell").allInnerTexts();
  const picture = await page.locator("canvas").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return { pixels: [...data].join(), colours: new Set(new Uint32Array(data.buffer)).size };
  });
  return { sum: cells.map(Number).reduce((sum, number) => sum + number, 0), ...picture };
}

test("more events change the numbers and the chart of their campaign", async () => {
  const name = `${RUN}-campaign`;
  const sendUsers = async (users) => {
    for (const user of users) await send(click(name, `${name}-${user}`, { geo_country: "DE", device_type: "mobile" }));
  };
  await sendUsers(["a", "b", "c"]);
  await signedIn(async (page) => {
    const before = await campaign(page, name, 3);
    assert.equal(before.sum, 3);
    assert.ok(before.colours > 10, "the chart shows something");
    await sendUsers(["d", "e", "f", "g", "h"]);
    const later = await campaign(page, name, 8);
    assert.equal(later.sum, 8);
    assert.notEqual(later.pixels, before.pixels);
    assert.match(await page.getByRole("region", { name: "Countries" }).innerText(), /DE\s+8/);

    await page.goto(at("/campaigns"));
    await page.getByRole("link", { name }).click();
    await page.getByRole("heading", { name: `Campaign ${name}` }).waitFor();
  });
});

test("the overview keeps itself up to date until somebody stops it", () =>
  signedIn(async (page) => {
    // Away from the overview, which would ask for its parts once more.
    await section(page, "Audit trail").click();
    await heading(page, "Audit trail").waitFor();
    const asked = { flow: 0, lag: 0 };
    page.on("request", (request) => {
      const part = request.url().match(/\/parts\/(flow|lag)/)?.[1];
      if (part) asked[part] += 1;
    });
    // The page's clock is put forward instead of waiting.
    await page.clock.install();
    await page.goto(at());
    await page.getByRole("region", { name: "Records that wait" }).getByRole("rowheader", { name: "processor" }).waitFor();
    await page.getByText(/Asked at/).waitFor();
    assert.deepEqual(asked, { flow: 0, lag: 1 });
    const pass = async (times) => {
      for (let time = 0; time < times; time += 1) {
        await page.clock.runFor(16_000);
        await page.waitForLoadState("networkidle");
      }
    };
    const both = () => asked.flow >= 1 && asked.lag >= 2;
    await until("both parts are loaded again", async () => {
      await pass(1);
      return both();
    });
    await page.getByLabel("Keep these numbers up to date").uncheck();
    await pass(1);
    const stopped = { ...asked };
    await pass(3);
    assert.deepEqual(asked, stopped);
    await page.getByLabel("Keep these numbers up to date").check();
    await until("both parts are loaded again", async () => {
      await pass(1);
      return asked.flow > stopped.flow && asked.lag > stopped.lag;
    });
    await page.getByRole("region", { name: "Records that wait" }).getByRole("rowheader", { name: "processor" }).waitFor();
  }));

test("a part that cannot be loaded says so and is tried again, and without a session one comes to sign in", () =>
  signedIn(async (page, context) => {
    const reader = page.getByRole("rowheader", { name: "processor" });
    await page.clock.install();
    await page.route("**/parts/lag", (route) => route.abort());
    await page.goto(at());
    await page.getByRole("alert").filter({ hasText: "could not be loaded" }).waitFor();
    assert.equal(await reader.count(), 0);
    await page.unroute("**/parts/lag");
    await page.clock.runFor(16_000);
    await reader.waitFor();
    assert.equal(await page.getByRole("alert").count(), 0);

    await context.clearCookies();
    await page.clock.runFor(16_000);
    await heading(page, "Sign in").waitFor();
  }, { statuses: [401], messages: [/net::ERR_FAILED/, /^htmx:(afterRequest|sendError),/] }));

test("what clients wrote is text", async () => {
  const user = `${RUN}-<img src=x onerror="document.title='taken'">`;
  const name = `${RUN}"><script>document.title = "taken"</script>`;
  await send({ ...click(name, user, { device_type: "<b>mobile</b>" }), id: `${RUN}-text-1` });
  await signedIn(async (page) => {
    await until("the event", async () => {
      await page.goto(at("/events", { user_id: user }));
      return (await row(page, `${RUN}-text-1`).count()) === 1;
    });
    assert.ok((await row(page, `${RUN}-text-1`).innerText()).includes(user));
    await campaign(page, name, 1);
    assert.equal(await page.locator("h2 code").first().innerText(), name);
    await page.getByRole("rowheader", { name: "<b>mobile</b>" }).waitFor();
    await page.goto(at("/campaigns"));
    await page.getByRole("link", { name }).click();
    await page.getByRole("heading", { name: `Campaign ${name}` }).waitFor();
    assert.equal(await page.locator("img, main script, main b").count(), 0);
    assert.equal(await page.title(), "Campaigns – Forebay");
  });
});

/** What has the focus: it must be seen, with a ring around it. */
async function focused(page) {
  const seen = await page.evaluate(() => {
    const element = document.activeElement;
    const { top, left, right, bottom } = element.getBoundingClientRect();
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return {
      name: element.name || element.textContent.trim() || element.value,
      ring: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
      inView: bottom > 0 && right > 0 && top < innerHeight && left < innerWidth && right > left,
    };
  });
  assert.ok(seen.ring && seen.inView, `the focus is not seen: ${JSON.stringify(seen)}`);
  return seen.name;
}

test("the keyboard alone is enough", async () => {
  const user = `${RUN}-keyboard`;
  await send({ ...click(RUN, user), id: `${user}-1` });
  await signedIn((page) => search(page, user));
  await inBrowser(async (page) => {
    const tabTo = async (name) => {
      for (let presses = 0; presses < 60; presses += 1) {
        await page.keyboard.press("Tab");
        if ((await focused(page)) === name) return;
      }
      assert.fail(`the key Tab does not lead to ${name}`);
    };
    await page.goto(at("/events"));
    // The field for the key has the focus from the start.
    assert.equal(await focused(page), "key");
    await page.keyboard.type(CONSOLE_KEY);
    await page.keyboard.press("Enter");
    await heading(page, "Events").waitFor();

    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "content");
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "id", "the next stop is the first field, not the navigation");

    await tabTo("user_id");
    await page.keyboard.type(user);
    await page.keyboard.press("Enter");
    await page.waitForURL(/user_id=/);
    await tabTo(`${user}-1`);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: `Event ${user}-1` }).waitFor();
    await tabTo("Sign out");
    await page.keyboard.press("Enter");
    await heading(page, "Sign in").waitFor();
  });
});

test("without JavaScript, signing in, searching and blocking work", async () => {
  const user = `${RUN}-plain`;
  await send({ ...click(RUN, user), id: `${user}-1` });
  await signedIn(async (page) => {
    await page.getByRole("link", { name: "How far each reader is" }).click();
    await page.getByRole("rowheader", { name: "processor" }).waitFor();
    await search(page, user);
    await page.getByRole("link", { name: `${user}-1` }).click();
    await page.getByRole("heading", { name: `Event ${user}-1` }).waitFor();

    await section(page, "Blocks").click();
    await page.getByLabel("Address or range").fill("198.51.100.0/28");
    await page.getByLabel("Reason").fill(`without scripts, ${RUN}`);
    await page.getByRole("button", { name: "Add" }).click();
    const entry = page.getByRole("row").filter({ hasText: `without scripts, ${RUN}` });
    await entry.getByRole("button", { name: /^Remove/ }).click();
    await page.getByRole("status").filter({ hasText: "is off the list" }).waitFor();
    assert.equal(await entry.count(), 0);
    await page.getByRole("button", { name: "Sign out" }).click();
    await heading(page, "Sign in").waitFor();
  }, { javaScriptEnabled: false });
});

test("a forged form is refused and changes nothing", () =>
  signedIn(async (page, context) => {
    const address = "198.51.100.77";
    await page.goto(at("/blocks"));
    const token = await page.locator("input[name=csrf]").first().inputValue();
    let others;
    await signedIn(async (other) => {
      await other.goto(at("/blocks"));
      others = await other.locator("input[name=csrf]").first().inputValue();
    });
    assert.notEqual(others, token);

    const form = { address, reason: `forged ${RUN}`, rule: "block" };
    const ours = { "sec-fetch-site": "same-origin", origin: new URL(CONSOLE).origin };
    for (const [what, headers, csrf] of [
      ["without a token", ours, undefined],
      ["with an empty token", ours, ""],
      ["with the token of another session", ours, others],
      ["from another site", { ...ours, "sec-fetch-site": "cross-site" }, token],
      ["from the address bar", { ...ours, "sec-fetch-site": "none" }, token],
      ["from another origin, in an old browser", { origin: "https://elsewhere.example" }, token],
      ["from no origin, in an old browser", {}, token],
    ]) {
      const answer = await context.request.post(at("/blocks"), { headers, form: { ...form, ...(csrf !== undefined && { csrf }) } });
      assert.equal(answer.status(), 403, what);
      assert.match(await answer.text(), /not sent from this page/);
    }
    const reason = page.getByRole("row").filter({ hasText: form.reason });
    const isListed = async () => {
      await page.goto(at("/blocks"));
      return (await reason.count()) > 0;
    };
    assert.ok(!(await isListed()));

    // The same request is taken when it is the page's own: it was refused for the reasons above and no other.
    const answer = await context.request.post(at("/blocks"), { headers: ours, form: { ...form, csrf: token } });
    assert.equal(answer.status(), 200);
    assert.ok(await isListed());
    await reason.getByRole("button", { name: /^Remove/ }).click();
    await page.getByRole("status").filter({ hasText: "is off the list" }).waitFor();
  }));

test("a page of another origin can link to the console, but neither send its forms nor frame its pages", async () => {
  const fields = { address: "198.51.100.78", reason: `elsewhere ${RUN}`, rule: "block" };
  const hidden = ([name, value]) => `<input type="hidden" name="${name}" value="${value}">`;
  const elsewhere = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><title>Elsewhere</title><link rel="icon" href="data:,"><iframe src="${at("/blocks")}"></iframe><a href="${at("/events")}">Events</a>
      <form method="post" action="${at("/blocks")}">${Object.entries(fields).map(hidden).join("")}<button>Win</button></form>`);
  });
  await new Promise((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
  const { port } = elsewhere.address();
  // One shares our host, so that the browser sends our cookie along; for the other it does not.
  const [sameHost, other] = [`http://127.0.0.1:${port}`, `http://localhost:${port}`];
  try {
    await signedIn(async (page, context) => {
      await page.goto(at("/blocks"));
      // The worst case: the other page has got hold of the token.
      fields.csrf = await page.locator("input[name=csrf]").first().inputValue();
      // Without the cookie, the form counts for nothing, and one is led to the console's own first page.
      for (const [origin, end] of [[sameHost, "Forbidden"], [other, "Overview"]]) {
        const forger = await context.newPage();
        await forger.goto(origin);
        const [, frame] = forger.frames();
        assert.ok(!(await frame.content()).includes("Forebay"), "the frame is empty");
        await forger.getByRole("button", { name: "Win" }).click();
        await heading(forger, end).waitFor();

        await forger.goto(origin);
        await forger.getByRole("link", { name: "Events" }).click();
        await heading(forger, "Events").waitFor();
        await forger.close();
      }
      await page.reload();
      assert.equal(await page.getByText(fields.reason).count(), 0);
    }, { statuses: [403], origins: [sameHost, other], messages: [/frame-ancestors|X-Frame-Options/i] });
  } finally {
    elsewhere.close();
  }
});

/** Looks at a page in light and dark, wide and narrow, as it opens and with all its parts open. */
async function accessible(page, what) {
  const wrong = [];
  for (const open of [false, true]) {
    await page.locator("details").evaluateAll((all, open) => all.forEach((details) => (details.open = open)), open);
    for (const width of [1280, 360, 320]) {
      await page.setViewportSize({ width, height: 800 });
      const needed = await page.evaluate(() => document.scrollingElement.scrollWidth);
      if (needed > width) wrong.push(`at ${width} px it is ${needed} px wide`);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        const found = await violations(page);
        wrong.push(...found.map((text) => `${colorScheme}, ${width} px, ${open ? "open" : "closed"}: ${text}`));
      }
    }
  }
  assert.deepEqual(wrong, [], what);
}

test("axe finds nothing on any page, and none scrolls sideways", async (context) => {
  const [user, name, tenant] = [`${RUN}-axe`, `${RUN}-axe-campaign`, `${RUN}-axe-letters`];
  await send({ ...click(name, user, { geo_country: "DE", device_type: "mobile" }), id: `${user}-1` });
  await failEvents(tenant, [`${RUN}-axe-bad`]);
  const look = (what, open, options) =>
    context.test(what, () => signedIn(async (page) => {
      await open(page);
      await accessible(page, what);
    }, options));
  const visit = (what, path, query, options) => look(what, (page) => page.goto(at(path, query)), options);

  await context.test("sign in", () => inBrowser(async (page) => {
    await page.goto(at("/sign-in"));
    await accessible(page, "sign in");
    await signIn(page, "not a key");
    await page.getByRole("alert").waitFor();
    await accessible(page, "sign in, refused");
  }, { statuses: [401] }));
  await look("overview", (page) => page.getByText(/Asked at/).waitFor());
  await look("events", (page) => search(page, user));
  await visit("no events", "/events", { user_id: "nobody" });
  await visit("events, a wrong question", "/events", { hours: "0" });
  await visit("an event", "/event", { id: `${user}-1` });
  await visit("an unknown event", "/event", { id: `${user}-2` });
  await look("a campaign", (page) => campaign(page, name, 1));
  await visit("campaigns", "/campaigns");
  await visit("dead letters", "/dead-letters", { tenant });
  await look("a redrive tried out", async (page) => {
    await page.goto(at("/dead-letters", { tenant }));
    await page.getByRole("button", { name: "Try out sending 1 again" }).click();
    await page.getByText("1 letter would be sent again").waitFor();
  });
  await look("blocks", async (page) => {
    await page.goto(at("/blocks"));
    await page.getByLabel("Address or range").fill("198.51.100.64/28");
    await page.getByLabel("Reason").fill(`axe ${RUN}`);
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByText("is on the list").waitFor();
  });
  await visit("is this address blocked", "/blocks", { address: "198.51.100.65" });
  await look("blocks, one removed", async (page) => {
    await page.goto(at("/blocks"));
    await page.getByRole("row").filter({ hasText: `axe ${RUN}` }).getByRole("button", { name: /^Remove/ }).click();
    await page.getByText("is off the list").waitFor();
  });
  await look("keys, one made", async (page) => {
    await page.goto(at("/keys"));
    await page.getByText("Make a key").click();
    const form = page.locator("form").filter({ has: page.getByRole("button", { name: "Make the key" }) });
    await form.getByLabel("Tenant").fill(tenant);
    await form.getByLabel("Name").fill(`${RUN}-axe-key`);
    await form.getByRole("button").click();
    await page.locator(".secret").waitFor();
  });
  await visit("keys", "/keys");
  await visit("audit trail", "/audit");
  await visit("audit trail of a day that is none", "/audit", { day: "yesterday" }, { messages: [/does not conform to the required format/] });
  await look("a forged form", async (page) => {
    await page.goto(at("/blocks"));
    await page.locator("input[name=csrf]").evaluateAll((fields) => fields.forEach((field) => (field.value = "none")));
    await page.getByLabel("Address or range").fill("198.51.100.80");
    await page.getByLabel("Reason").fill("forged");
    await page.getByRole("button", { name: "Add" }).click();
    await heading(page, "Forbidden").waitFor();
  }, { statuses: [403] });
  await visit("a parameter twice", "/audit?day=2026-11-20&day=2026-11-21", {}, { statuses: [400] });
  await look("a page that is not there", async (page) => {
    await page.goto(at("/nowhere"));
    await heading(page, "Not Found").waitFor();
  }, { statuses: [404] });
});

const { SCREENSHOTS } = process.env;
const MAX_PICTURE_BYTES = 150_000;

test("pictures for the docs", { skip: !SCREENSHOTS }, async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  const [name, shop, order] = [`campaign-${randomInt(1000, 10_000)}`, "shop", `order-${RUN}`];
  const [countries, devices] = [["DE", "FR", "DE", "CH", "AT"], ["mobile", "desktop", "mobile", "tablet"]];
  for (let number = 0; number < 60; number += 1) {
    const [user, ip] = [`visitor-${number % 23}`, `203.0.113.${number}`];
    const [country, device] = [countries[number % countries.length], devices[number % devices.length]];
    const event = click(name, user, { geo_country: country, device_type: device, client_ip: ip });
    await send({ ...event, type: number % 4 === 0 ? "click" : "impression", id: `${RUN}-${number}` });
  }
  await send({ type: "transaction", user_id: "visitor-4", amount: 19.9, currency: "EUR", client_ip: "203.0.113.4", id: order });
  await failEvents(shop, ["order-1001", "order-1002", "order-1003"]);

  await signedIn(async (page) => {
    await page.setViewportSize({ width: 1280, height: 860 });
    const take = async (file) => {
      const path = join(SCREENSHOTS, `${file}.png`);
      await page.screenshot({ path, animations: "disabled", caret: "hide" });
      const { size } = await stat(path);
      assert.ok(size < MAX_PICTURE_BYTES, `${path} has ${size} bytes`);
    };
    await campaign(page, name, 60);
    await page.getByText("The numbers of this chart").click();
    await take("campaign");

    await page.goto(at());
    await page.getByText(/Asked at/).waitFor();
    await take("overview");
    await page.emulateMedia({ colorScheme: "dark" });
    await take("overview-dark");
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 390, height: 1200 });
    await page.locator("canvas").waitFor();
    await take("overview-narrow");

    // Ids of traces do not compress.
    await page.setViewportSize({ width: 1280, height: 640 });
    await page.goto(at("/events", { type: "click", dimension: "campaign_id", value: name, hours: "1" }));
    await take("events");
    await page.setViewportSize({ width: 1280, height: 860 });
    await page.goto(at("/event", { id: order }));
    await take("event");
    await page.goto(at("/dead-letters", { tenant: shop }));
    await page.getByText("Examples of schema-violation").click();
    await take("dead-letters");

    const reasons = { "198.51.100.23": "sent 40,000 clicks in a minute", "203.0.113.128/28": "a data centre, no visitors" };
    await page.goto(at("/blocks"));
    for (const [address, reason] of Object.entries(reasons)) {
      await page.getByLabel("Address or range").fill(address);
      await page.getByLabel("Reason").fill(reason);
      await page.getByLabel("For hours").fill("24");
      await page.getByRole("button", { name: "Add" }).click();
      await row(page, address).waitFor();
    }
    await page.goto(at("/blocks", { address: "203.0.113.130" }));
    await take("blocks");
    for (const address of Object.keys(reasons)) {
      await page.getByRole("button", { name: `Remove ${address}` }).click();
      await page.getByText("is off the list").waitFor();
    }
  });
});
