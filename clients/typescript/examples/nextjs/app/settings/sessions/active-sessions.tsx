"use client";

import { useState } from "react";
import { useSessions } from "@sojourn/client/react";

const lastUsed = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Where the person is signed in, and buttons that end it. */
export function ActiveSessions() {
  const { sessions, total, hasMore, message, error, loading, more, end, endOthers } = useSessions({ every: 60 });
  const [said, say] = useState("");
  const told = (ending: Promise<number>) =>
    ending.then(
      (ended) => say(ended === 1 ? "One device was signed out." : `${ended} devices were signed out.`),
      (fault: Error) => say(fault.message),
    );
  if (error?.status === 401) return <p>You are signed out. <a href="/">Sign in</a></p>;
  if (!sessions) return <p aria-busy={loading}>{error ? error.message : "…"}</p>;
  return (
    <section aria-label="Active sessions">
      <p role="status">{said || error?.message || message}</p>
      <ul>
        {sessions.map(({ id, name, device, location, lastUsedAt, isCurrent }) => (
          <li key={id}>
            <strong>{name ?? device}</strong> {location} {lastUsed.format(new Date(lastUsedAt))}{" "}
            {isCurrent ? "This device" : <button onClick={() => void told(end(id))}>Sign out {name ?? device}</button>}
          </li>
        ))}
      </ul>
      {hasMore && <button onClick={() => void more()}>Show more of {total}</button>}
      {total > 1 && <button onClick={() => void told(endOthers())}>Sign out everywhere else</button>}
    </section>
  );
}
