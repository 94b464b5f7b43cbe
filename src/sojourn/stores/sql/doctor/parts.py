"""What each table is for, and whom it concerns when it is gone."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.clock import SECOND
from sojourn.finding import Part
from sojourn.line import WAITING_FOR
from sojourn.stores.sql import schema

PARTS = {
    str(table.name): part
    for table, part in (
        (schema.sessions, Part.SESSIONS),
        (schema.session_users, Part.SESSION_USERS),
        (schema.leases, Part.LEASES),
        (schema.pools, Part.POOLS),
        (schema.waiting, Part.WAITING),
        (schema.relays, Part.RELAYS),
        *((table, Part.RELAY_COMMANDS) for table in schema.relay_commands),
        (schema.events, Part.EVENTS),
        (schema.marks, Part.MARKS),
        (schema.requests, Part.REQUESTS),
        (schema.licenses, Part.LICENSES),
        (schema.features, Part.FEATURES),
        (schema.api_keys, Part.API_KEYS),
        (schema.audits, Part.AUDITS),
        (schema.sweeps, Part.SWEEPS),
        (schema.sweep_plans, Part.SWEEP_PLANS),
        (schema.sweep_runs, Part.SWEEP_RUNS),
        *((table, Part.USAGE) for table in schema.usage),
        (schema.instances, Part.INSTANCES),
        (schema.webhooks, Part.WEBHOOKS),
        (schema.webhook_deliveries, Part.WEBHOOK_DELIVERIES),
    )
}
"""The purpose of each Sojourn table, by its name."""

NOBODY_IN = "Nobody can sign in, and nobody who is signed in is recognized."
NOBODY_SEATED = "Nobody can take a seat or keep one."
NOTHING_NEW = "Nobody can sign in, sign out or take a seat; whoever is in is still recognized."
OTHERS_WORK = "Sessions and seats work."
LINE_READ = 2 * WAITING_FOR
"""For how long after somebody waited last the line of a pool is read, in milliseconds: see `lines.write`."""
EFFECTS: dict[Part, str] = {
    # The worst first: it becomes the headline.
    Part.SESSIONS: NOBODY_IN,
    Part.SESSION_USERS: NOBODY_IN,
    Part.LEASES: f"{NOBODY_SEATED} Nobody can sign out.",
    Part.POOLS: NOBODY_SEATED,
    Part.EVENTS: NOTHING_NEW,
    Part.MARKS: NOTHING_NEW,
    Part.API_KEYS: "No API key is recognized: applications and operators are refused.",
    Part.LICENSES: "No license key is recognized: nobody can take a seat, whoever has one keeps it.",
    Part.REQUESTS: "Requests with an Idempotency-Key, as Sojourn's own clients send, are refused.",
    Part.FEATURES: f"Licenses cannot be looked up or changed. {OTHERS_WORK}",
    Part.AUDITS: f"Operators cannot change licenses and keys. {OTHERS_WORK}",
    Part.SWEEPS: f"What is over is not swept away. {OTHERS_WORK}",
    Part.WEBHOOKS: f"Events are not sent to webhooks; they are kept. {OTHERS_WORK}",
    Part.WEBHOOK_DELIVERIES: f"Events are not sent to webhooks; they are kept. {OTHERS_WORK}",
    Part.WAITING: "Nobody can wait in a line for a seat; where somebody did, acquires fail for up to "
    f"{LINE_READ // SECOND} seconds. A sweep does all else, and is noted as failed. {OTHERS_WORK}",
    Part.RELAYS: "Relays are not heard, and go on with what they have; nobody gets a seat here of what they "
    f"share. {OTHERS_WORK}",
    Part.RELAY_COMMANDS: f"Relays are not heard, and go on with what they have. {OTHERS_WORK}",
    Part.SWEEP_PLANS: f"Planned sweeps do not run. {OTHERS_WORK}",
    Part.SWEEP_RUNS: f"Planned and selective sweeps do not run. {OTHERS_WORK}",
    Part.USAGE: "How seats were used is not measured; once the table is back, `sojourn analytics rebuild` "
    f"measures what the events still tell. {OTHERS_WORK}",
    Part.INSTANCES: f"Servers cannot compare their secrets. {OTHERS_WORK}",
}
CORE = frozenset(list(EFFECTS)[:6])
"""Without these nobody signs in or gets a seat."""
KEPT_ELSEWHERE = frozenset(
    {
        *(Part.SESSIONS, Part.SESSION_USERS, Part.LEASES, Part.POOLS, Part.WAITING, Part.RELAYS),
        Part.REQUESTS,
    }
)
"""Of a ledger beside a store on Redis: these tables are there, and nothing uses them."""
UNUSED = f"Nobody is concerned: the store keeps it elsewhere. {OTHERS_WORK}"


def parts_of(tables: Sequence[str]) -> list[Part]:
    """Return what these tables are, each once."""
    return list(dict.fromkeys(PARTS[name] for name in tables if name in PARTS))


def effects_of(parts: Sequence[Part], *, of_ledger: bool) -> str:
    """Say whom it concerns that these are gone, the worst first."""
    said = []
    for part, effect in EFFECTS.items():
        if part in parts:
            said += [UNUSED if of_ledger and part in KEPT_ELSEWHERE else effect]
    if len(set(said)) > 1:  # what works is true of all of them together only
        worse = [each for each in said if OTHERS_WORK not in each]
        said = worse or said
    return " ".join(dict.fromkeys(said))
