import assert from "node:assert/strict";
import { test } from "node:test";
import { activeSessions, Client, SeatDenied, Sessions } from "../../src/node.js";
import { verifyWebhook, WebhookRefused } from "../../src/webhooks.js";

const env = process.env as Record<string, string>;
const client = new Client({ url: env.SOJOURN_URL!, proof: env.SOJOURN_LICENSE_KEY! });
const wish = { feature: "editor", presence: "beats" } as const;

test("seats of a server: one is refused, waits, and gets it", async () => {
  const ada = client.seat({ ...wish, userId: "ada", clientId: "one" });
  const bob = client.seat({ ...wish, userId: "bob", clientId: "two" });
  await ada.acquire();
  assert.equal(ada.held, true);
  await assert.rejects(bob.acquire(), (fault: SeatDenied) => fault instanceof SeatDenied && fault.problem!.limit === 1);
  const place = new Promise<number | undefined>((resolve) => {
    bob.on("wait", ({ error }) => resolve((error as SeatDenied).position));
  });
  // The first answer comes when the wait is over: a short one says the place, and the next gets the seat.
  const waited = bob.acquire({ wait: 60 });
  void place;
  assert.equal(await ada.release(), true);
  await waited;
  assert.equal(bob.held, true);
  assert.equal(await bob.release(), true);
});

test("a takeover takes one's own seat along", async () => {
  const desk = client.seat({ ...wish, userId: "cy", clientId: "desk" });
  const phone = client.seat({ ...wish, userId: "cy", clientId: "phone" });
  await desk.acquire();
  await assert.rejects(phone.acquire(), (fault: SeatDenied) => fault.mine[0]!.clientId === "desk");
  await phone.acquire({ takeover: true });
  assert.equal(phone.held, true);
  await phone.release();
});

test("sessions of an application", async () => {
  const sessions = new Sessions({ url: env.SOJOURN_URL!, key: env.SOJOURN_APP_KEY! });
  const { token, session } = await sessions.begin({ userId: "flo", data: { theme: "dark" } });
  assert.equal(session.userId, "flo");
  await Promise.all([sessions.save(token, { set: { a: 1 } }), sessions.save(token, { set: { b: 2 }, unset: ["theme"] })]);
  assert.deepEqual((await sessions.check(token)).data, { a: 1, b: 2 });
  const next = await sessions.rotate(token, { grace: 0 });
  await assert.rejects(sessions.check(token), (fault: any) => fault.status === 401);
  const other = await sessions.begin({ userId: "flo" });
  assert.equal((await sessions.of("flo")).length, 2);
  assert.equal(await sessions.endOthers(next.token), 1);
  await assert.rejects(sessions.check(other.token), { code: "session_ended" });
  assert.equal(await sessions.end(next.token), true);
  await assert.rejects(sessions.check(next.token), { code: "session_ended" });
});

test("people's own sessions, for frameworks that speak in requests and responses", async () => {
  const sessions = new Sessions({ url: env.SOJOURN_URL!, key: env.SOJOURN_APP_KEY! });
  const { token } = await sessions.begin({ userId: "gil", device: { userAgent: "curl/8.0" } });
  const other = await sessions.begin({ userId: "gil" });
  const handle = activeSessions({ url: `${env.SOJOURN_URL!}/`, token: (request) => request.headers.get("cookie")?.slice(4) });
  const ask = (method: string, path: string, headers: object = {}, body?: string) =>
    handle(new Request(`http://app.test/api/user/active-sessions${path}`, { method, headers: { Cookie: `sid=${token}`, Host: "app.test", ...headers }, ...(body && { body }) }));
  const list = await (await ask("GET", "?limit=1")).json();
  assert.deepEqual([list.total, list.data.length, list.data[0].isCurrent], [2, 1, true]);
  assert.equal((await ask("PATCH", `/${list.data[0].id}`, {}, JSON.stringify({ name: "Desk" }))).status, 200);
  assert.equal((await ask("PATCH", `/${list.data[0].id}`, {}, " ".repeat(5_000))).status, 413);
  assert.equal((await ask("POST", "/logout-others", { Origin: "http://evil.test" })).status, 403);
  const ended = await ask("POST", "/logout-others", { Origin: "http://app.test" });
  assert.deepEqual([ended.status, ended.headers.get("cache-control"), (await ended.json()).data.ended], [200, "no-store", 1]);
  await assert.rejects(sessions.check(other.token), { code: "session_ended" });
  const nobody = activeSessions({ url: env.SOJOURN_URL!, token: () => undefined });
  assert.equal((await nobody(new Request("http://app.test/api/user/active-sessions"))).status, 401);
});

test("webhooks as the server signs them", async () => {
  const { headers, body, secret, now } = JSON.parse(env.SOJOURN_WEBHOOK!);
  const at = { now };
  const message = await verifyWebhook(headers, body, [" ", secret], at);
  assert.deepEqual([message.id, message.type, message.data], ["msg_1", "lease.acquired", { leaseId: "lse_1" }]);
  const refused = (given: object, text: string, secrets: string | string[], how: object) =>
    assert.rejects(verifyWebhook(given as Record<string, string>, text, secrets, how), WebhookRefused);
  const other = "whsec_" + btoa("x".repeat(32));
  await refused(headers, `${body} `, secret, at);
  await refused(headers, body, other, at);
  await refused(headers, body, ["", "whsec_"], at);
  await refused(headers, body, "whsec_c2hvcnQ=", at);
  await refused(headers, body, "whsec_%%%", at);
  await refused(headers, body, secret, { now: now + 301 });
  await refused(headers, body, secret, { now: now - 301 });
  await refused({ ...headers, "webhook-id": "msg_2" }, body, secret, at);
  await refused({ ...headers, "webhook-signature": "v1,AAAA v2,x" }, body, secret, at);
  await refused({ "webhook-id": "msg_1" }, body, secret, at);
  assert.equal((await verifyWebhook(new Headers(headers), new TextEncoder().encode(body), [other, secret.replace(/=+$/, "")], at)).id, "msg_1");
});
