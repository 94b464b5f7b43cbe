import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { SeatDenied, SeatLost, SojournError } from "../src/errors.js";
import { Http } from "../src/http.js";
import { ManualClock } from "../src/testing.js";
import { FakeServer } from "./fake.js";

/** Where spec/wire is: beside the sources, wherever this was built. */
const WIRE = process.env.SOJOURN_WIRE ?? "../../spec/wire";
const read = (name: string) => JSON.parse(readFileSync(`${WIRE}/${name}.json`, "utf8"));
const requests: Record<string, any>[] = read("requests");
const answers: Record<string, any> = read("answers");
const socket = read("socket");
const tokens = read("tokens");
const named = (name: string) => requests.find((each) => each.name === name)!;

function canned(name: string): Http {
  const { status, type, body, retryAfter } = answers[name];
  const headers = { "content-type": type, ...(retryAfter && { "retry-after": retryAfter }) };
  return new Http("http://x", new ManualClock(), async () => new Response(JSON.stringify(body), { status, headers }));
}

for (const name of Object.keys(answers))
  test(`the answer is understood: ${name}`, async () => {
    const { means, body, status, retryAfter } = answers[name];
    const asked = canned(name).call({ path: "/" });
    if (["seat", "beat", "released"].includes(means)) {
      assert.deepEqual((await asked).data, body.data);
      return;
    }
    const fault = await asked.then(() => assert.fail(), (caught) => caught as SojournError);
    assert.deepEqual([fault.code, fault.status, fault.message, fault.hint], [body.code, status, body.error, body.details]);
    assert.equal(fault.retryAfter, retryAfter ? Number(retryAfter) : undefined);
    assert.equal(fault instanceof SeatDenied, means === "denied");
    assert.equal(fault instanceof SeatLost, means === "lost");
    assert.equal(fault.passing, means === "passing");
    if (fault instanceof SeatDenied) assert.equal(fault.position, body.position);
    if (fault instanceof SeatLost) assert.deepEqual([fault.reason, fault.resumable], [body.reason, body.resumable]);
  });

test("a seat asks as is written", async () => {
  const server = new FakeServer();
  const { feature, userId, device } = named("acquire with a device").body;
  const wish = { feature, userId, clientId: "ada@studio-7" };
  await server.seat(wish).acquire();
  await server.seat({ ...wish, device }).acquire();
  await server.seat(wish).acquire({ takeover: true });
  await server.seat(wish).acquire({ wait: 20 });
  const names = ["acquire", "acquire with a device", "acquire by takeover", "acquire, asking to wait"];
  assert.deepEqual(server.asked.map((each) => each.body), names.map((name) => named(name).body));
  assert.ok(server.asked.every((each) => each.path === named("acquire").path));
});

test("beats, resumes, releases and goodbyes are as is written", async () => {
  const server = new FakeServer();
  const seat = server.seat({ clientId: "ada@studio-7" });
  await seat.acquire();
  await server.clock.advance(31_000);
  seat.idle = () => 300;
  server.hidden = true;
  await server.clock.advance(31_000);
  assert.deepEqual(server.calls(/heartbeat/).map((each) => each.body), [named("beat").body, named("beat of the idle").body]);
  const saved = seat.goodbye()!;
  assert.deepEqual(server.beacons[0], { ...named("goodbye of a closed page").body, token: saved.token });
  await server.seat().acquire();
});

test("the socket speaks as is written", async () => {
  const server = new FakeServer();
  const seat = server.seat({ socket: true });
  await seat.acquire();
  await server.clock.advance(0);
  assert.equal(new URL(server.socket.url).pathname, socket.path);
  assert.deepEqual(server.socket.protocols, socket.offers.map((each: string) => each.replace("$leaseToken", seat.saved!.token)));
  const told = socket.serverSays.map((each: { text: object }) => each.text);
  for (const text of told.filter((each: { type: string }) => !["lost", "superseded"].includes(each.type))) server.socket.tell(text);
  seat.goodbye();
  const said = socket.clientSays.map((each: { text: object }) => JSON.stringify(each.text));
  for (const each of server.socket.heard) assert.ok(said.includes(JSON.stringify(each)));
  assert.equal(server.socket.heard.length, 2);
});

test("tokens have their shape", () => {
  for (const { pattern, sample } of Object.values<{ pattern: string; sample: string }>(tokens)) assert.match(sample, new RegExp(pattern));
});
