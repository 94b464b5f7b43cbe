import assert from "node:assert/strict";
import test from "node:test";
import { createElement as h, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { Client } from "../src/index.js";
import { SojournProvider, useSeat, useSessions } from "../src/react.js";
import { FakeServer, KEY } from "./fake.js";

function Editor() {
  const { state, held, seat, check } = useSeat({ feature: "editor", userId: "ada" });
  assert.throws(check, { name: "SeatLost" });
  return h("p", null, `${state} ${held} ${typeof seat}`);
}

function Settings() {
  const { sessions, loading } = useSessions({ fetch: () => assert.fail("a server asked") });
  return h("p", null, `${typeof sessions} ${loading}`);
}

test("on a server nothing is asked for, and nothing is kept", async () => {
  const { clock, fetch, asked } = new FakeServer();
  const client = new Client({ url: "http://licenses.test", proof: KEY, clock, fetch, socket: null });
  const app = h(StrictMode, null, h(SojournProvider, { client }, h(Editor), h(Settings)));
  for (let n = 0; n < 2; n++)
    assert.equal(renderToString(app), "<p>new false undefined</p><p>undefined true</p>");
  await clock.advance(60_000);
  assert.deepEqual(asked, []);
});

test("a component without a provider says what is missing", () => {
  assert.throws(() => renderToString(h(Editor)), /SojournProvider/);
});
