/** An application with React, for tests in a browser: seats and sessions that are mounted and unmounted at will. */
import { createElement as h, type ReactElement, StrictMode, useEffect, useState } from "react";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server.browser";
import { Client } from "../src/index.js";
import { SojournProvider, type UsedSeat, type UsedSessions, useSeat, useSessions } from "../src/react.js";

interface How {
  url: string;
  proof: string;
  token?: string;
  user?: string;
  /** Whether tabs share no seat. */
  own?: boolean;
  /** What the page begins with. */
  begin?: "mount" | "hydrate";
}

const how = JSON.parse(decodeURIComponent(location.hash.slice(1))) as How;
const client = new Client({ url: how.url, proof: how.proof });
if (how.own) client.seat = client.own;
const page = { mounts: 0, told: [] as string[], faults: [] as string[], seats: {} as Record<string, UsedSeat>, sessions: undefined as UsedSessions | undefined, set: (_: Shown) => {}, mount, unmount, ready: false };
type Shown = Record<string, boolean>;

function Seat({ name, enabled }: { name: string; enabled: boolean }): ReactElement {
  const seat = useSeat({ feature: "editor", userId: how.user ?? "ada", enabled, onChange: ({ state, reason }) => page.told.push(`${name} ${state} ${reason}`) });
  useEffect(() => {
    page.mounts++;
    page.seats[name] = seat;
  });
  return h("p", { id: name }, seat.held ? "held" : seat.pending ? "pending" : (seat.error?.code ?? seat.state));
}

function Sessions(): ReactElement {
  const sessions = useSessions({ url: `${how.url}/api/user/active-sessions`, token: () => how.token! });
  useEffect(() => {
    page.sessions = sessions;
  });
  if (!sessions.sessions) return h("p", { id: "sessions" }, sessions.error?.code ?? "…");
  const row = ({ id, device, isCurrent }: { id: string; device: string; isCurrent: boolean }) =>
    h("li", { key: id }, device, !isCurrent && h("button", { onClick: () => void sessions.end(id) }, "Sign out"));
  return h("ul", { id: "sessions" }, sessions.sessions.map(row));
}

function App(): ReactElement {
  const [shown, set] = useState<Shown>(how.token ? { sessions: true } : { first: true, second: true });
  useEffect(() => {
    page.set = set;
    page.ready = true;
  }, []);
  const seats = ["first", "second"].filter((name) => name in shown).map((name) => h(Seat, { key: name, name, enabled: shown[name]! }));
  return h(SojournProvider, { client }, seats, shown.sessions && h(Sessions));
}

let root: Root | undefined;

function mount(): void {
  const place = document.getElementById("root")!;
  const app = h(StrictMode, null, h(App));
  if (how.begin === "hydrate") {
    place.innerHTML = renderToString(app);
    page.told.push(place.textContent!);
    root = hydrateRoot(place, app, { onRecoverableError: (fault) => page.faults.push(String(fault)) });
  } else {
    root = createRoot(place);
    root.render(app);
  }
}

function unmount(): void {
  root?.unmount();
}

Object.assign(globalThis, { page });
mount();
