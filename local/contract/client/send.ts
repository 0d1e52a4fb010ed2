// Sends an event with the client that is generated from docs/openapi.json, and reads its timeline. The compiler checks what is
// sent and read against the document.

import createClient from "openapi-fetch";

import type { components, paths } from "./openapi.js";

const [url, key] = [process.env["CONTRACT_URL"], process.env["CONTRACT_KEY"]];
const client = createClient<paths>({ baseUrl: url, headers: { "X-Api-Key": key } });

const event: components["schemas"]["Event"] = {
  type: "transaction",
  id: "from-the-client",
  user_id: "u-42",
  amount: 19.9,
  currency: "EUR",
};
const sent = await client.POST("/events", { body: event });
if (sent.error) throw new Error(`${sent.error.type}: ${sent.error.detail}`);
const { id, partition, offset } = sent.data;

const found = await client.GET("/events/{id}", {
  params: { path: { id }, query: { partition, offset, wait_ms: 10_000 } },
});
if (found.error) throw new Error(`${found.error.type}: ${found.error.detail}`);
const steps = found.data.timeline.map((step) => step.step);

// What the document does not know does not compile.
// @ts-expect-error
await client.POST("/events", { body: { type: "no-such-type" } }).then(({ response }) => {
  if (response.status !== 400) throw new Error(`an event of no type: ${response.status}`);
});

console.log(JSON.stringify({ id, status: found.data.status, steps }));
