import assert from "node:assert/strict";
import { test } from "node:test";
import createClient from "openapi-fetch";
// Made by `openapi-typescript spec/openapi.json`, without flags or edits.
import type { paths } from "../whole.js";

const { SOJOURN_URL: baseUrl, SOJOURN_LICENSE_KEY: key } = process.env as Record<string, string>;
const api = createClient<paths>({ baseUrl: baseUrl! });
const by = (proof: string) => ({ headers: { Authorization: `Bearer ${proof}` } });
const SEATS = "/api/licenses/sessions";

test("what a third party's generator makes of the document acquires, is refused, beats and releases", async () => {
  const wish = { feature: "reader", clientId: "generated" };
  const granted = await api.POST(SEATS, { ...by(key!), body: { ...wish, userId: "ada" } });
  const { token, fence, resumed } = granted.data!.data;
  assert.deepEqual([granted.response.status, fence, resumed], [201, 1, false]);
  const refused = await api.POST(SEATS, { ...by(key!), body: { ...wish, userId: "bob" } });
  assert.equal(refused.data, undefined);
  const code: string = refused.error!.code; // every refusal has one, and it is in the types
  assert.deepEqual([refused.response.status, code], [409, "seat_limit"]);
  if (refused.error!.code === "seat_limit") assert.equal(refused.error!.limit, 1);
  const beat = await api.POST(`${SEATS}/heartbeat`, { ...by(token), body: { idleFor: 1.5 } });
  assert.equal(beat.data!.data.state, "active");
  const released = await api.DELETE(`${SEATS}/current`, by(token));
  assert.equal(released.data!.data.released, true);
  const lost = await api.POST(`${SEATS}/heartbeat`, by(token));
  assert.deepEqual([lost.response.status, lost.error!.code], [410, "lease_lost"]);
});
