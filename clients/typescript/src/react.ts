"use client";
/**
 * Hooks for React: seats, and where a person is signed in.
 *
 *     const client = new Client({ url, proof }); // once, outside of components
 *     <SojournProvider client={client}>…</SojournProvider>
 *
 *     const { held, state, error, acquire } = useSeat({ feature: "editor", userId });
 *     const { sessions, end, endOthers } = useSessions();
 *
 * On a server nothing is asked for: `state` is `new` there, and `sessions` is undefined.
 */
import { createContext, createElement, type ReactElement, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { SeatLost } from "./errors.js";
import type { Client } from "./index.js";
import { MountedSeat, type SeatNow, UNASKED } from "./mounted.js";
import { type SessionsNow, type SessionsOptions, SignedIn, UNREAD } from "./signed-in.js";
import type { AcquireOptions, Change, Seat, SeatOptions } from "./terms.js";

export type { ActiveSession, SessionsNow, SessionsOptions } from "./signed-in.js";
export type { SeatNow };

const Clients = createContext<Client | undefined>(undefined);

/** Gives the components below a client. Make it once: another client has seats of its own. */
export function SojournProvider({ client, children }: { client: Client; children?: ReactNode }): ReactElement {
  return createElement(Clients.Provider, { value: client }, children);
}

export function useClient(): Client {
  const client = useContext(Clients);
  if (!client) throw new Error("There is no <SojournProvider client={…}> around this component.");
  return client;
}

export interface UseSeatOptions extends SeatOptions {
  /** Whether this component wants the seat now; true unless it is said. */
  enabled?: boolean;
  /** How it is asked for when it is wanted: see `AcquireOptions`. */
  wait?: number;
  takeover?: boolean;
  /** With `resumed` somebody else may have had the seat in between. */
  onChange?: (change: Change) => void;
  /** Somebody was refused, and the person here has done nothing for a while: a good moment to release. */
  onNeeded?: () => void;
  onSessionExpired?: () => void;
}

export interface UsedSeat extends SeatNow {
  /** Throws SeatLost unless the seat is held: call it before what only a holder may do. */
  check(): void;
  /** Asks for it, in place of what is under way. Tells whether it is held; if not, `error` says why. */
  acquire(options?: AcquireOptions): Promise<boolean>;
  /** Gives it back, for all components of this page. */
  release(): Promise<boolean>;
  /** The seat itself, once this component is mounted. */
  readonly seat: Seat | undefined;
}

const SEATS = new WeakMap<Client, Map<string, MountedSeat>>();

function mounted(client: Client, key: string): MountedSeat {
  const seats = SEATS.get(client) ?? new Map<string, MountedSeat>();
  SEATS.set(client, seats);
  const known = seats.get(key);
  if (known) return known;
  const seat = new MountedSeat(client.seat(JSON.parse(key) as SeatOptions), () => seats.get(key) === seat && seats.delete(key));
  seats.set(key, seat);
  return seat;
}

/** The same options, however they are written, are the same seat. */
function keyOf(options: object): string {
  return JSON.stringify(options, (_, value: unknown) =>
    value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value,
  );
}

/**
 * A seat for as long as this component is mounted and `enabled`. Components that name the same seat share it; the last
 * one that is unmounted gives it back.
 */
export function useSeat({ enabled = true, wait, takeover, onChange, onNeeded, onSessionExpired, ...options }: UseSeatOptions): UsedSeat {
  const client = useClient();
  const key = keyOf(options);
  const latest = useRef({ wait, takeover, onChange, onNeeded, onSessionExpired });
  useEffect(() => {
    latest.current = { wait, takeover, onChange, onNeeded, onSessionExpired };
  });
  const watch = useCallback((call: () => void) => mounted(client, key).watch(call), [client, key]);
  const find = useCallback(() => SEATS.get(client)?.get(key), [client, key]);
  const now = useSyncExternalStore(watch, () => find()?.now ?? UNASKED, () => UNASKED);
  useEffect(() => {
    const seat = mounted(client, key);
    const offs = [
      seat.on("change", (change) => latest.current.onChange?.(change)),
      seat.on("needed", () => latest.current.onNeeded?.()),
      seat.on("sessionExpired", () => latest.current.onSessionExpired?.()),
    ];
    return () => offs.forEach((off) => off());
  }, [client, key]);
  useEffect(() => {
    if (!enabled) return;
    const { wait, takeover } = latest.current;
    return mounted(client, key).want({ wait, takeover });
  }, [client, key, enabled]);
  return useMemo(
    () => ({
      ...now,
      get seat() {
        return find()?.seat;
      },
      check() {
        const seat = find()?.seat;
        if (!seat) throw new SeatLost("new");
        seat.check();
      },
      acquire: async (how?: AcquireOptions) => !!(await find()?.acquire(how)),
      release: async () => (await find()?.release()) ?? true,
    }),
    [now, find],
  );
}

export interface UsedSessions extends SessionsNow {
  refresh(): Promise<void>;
  /** Reads the next ones of a long list. */
  more(): Promise<void>;
  /** Signs out there, and tells how many were signed out by it. Rejects with a SojournError, as `reauth_required`. */
  end(id: string): Promise<number>;
  /** Signs out everywhere else, and tells in how many places. */
  endOthers(): Promise<number>;
  /** Gives a device a name; null takes it back. */
  rename(id: string, name: string | null): Promise<void>;
}

/** Where the person is signed in, as `/api/user/active-sessions` tells; of the page's own origin unless `url` says another. */
export function useSessions({ url, every, token, fetch }: SessionsOptions = {}): UsedSessions {
  const latest = useRef({ token, fetch });
  useEffect(() => {
    latest.current = { token, fetch };
  });
  const hasToken = !!token;
  const list = useMemo(
    () =>
      new SignedIn({
        ...(url !== undefined && { url }),
        ...(every !== undefined && { every }),
        ...(hasToken && { token: () => latest.current.token!() }),
        fetch: (to, init) => (latest.current.fetch ?? globalThis.fetch)(to, init),
      }),
    [url, every, hasToken],
  );
  const watch = useCallback((call: () => void) => list.watch(call), [list]);
  const now = useSyncExternalStore(watch, () => list.now, () => UNREAD);
  return useMemo(
    () => ({
      ...now,
      refresh: () => list.refresh(),
      more: () => list.more(),
      end: (id: string) => list.end(id),
      endOthers: () => list.endOthers(),
      rename: (id: string, name: string | null) => list.rename(id, name),
    }),
    [now, list],
  );
}
