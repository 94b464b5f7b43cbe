"""Devices on which a user is seen for the first time.

Whether a device is new is found out, and told, in the transaction that creates the session. To derive
it later from the stream would not do: by then tombstones may have been forgotten, other sign-ins have
come, and a reader who starts over would tell it differently. The price is one statement for a batch,
and only where a device has a name. Two sign-ins at the same instant from the same new device may both
be told, for neither sees the other: better twice than never.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sojourn.device import Device, new_device_data
from sojourn.event import Event, EventKind
from sojourn.session import Session
from sojourn.stores.sql.database import Tx

AT_ONCE = 50
"""Questions per statement."""

# The first session of that device answers; only a device that is new costs a look at all of them.
KNOWN = """
EXISTS (SELECT 1 FROM sojourn_sessions AS s WHERE s.user_id = :user_# AND s.impersonator IS NULL),
EXISTS (SELECT 1 FROM sojourn_sessions AS s WHERE s.user_id = :user_# AND s.impersonator IS NULL
    AND s.device IS NOT NULL AND coalesce({device name}, '') = :name_#
    AND coalesce({device kind}, '') = :kind_#)
"""

Key = tuple[str, str, str]


def tell_new_devices(
    tx: Tx, began: Sequence[Session], happened: Sequence[Event], *, ips: bool
) -> list[Event]:
    """Return what has happened, with a SESSION_NEW_DEVICE after each creation that calls for one."""
    named = {session.id: (key, session.device) for session in began if (key := _key(session))}
    if not named:
        return list(happened)
    keys = list(dict.fromkeys(key for key, _ in named.values()))
    users, devices = _known(tx, keys)
    told: list[Event] = []
    for event in happened:
        told.append(event)
        if event.kind is not EventKind.SESSION_CREATED or event.subject not in named:
            continue
        key, device = named[event.subject]
        if key not in devices:
            assert device is not None  # it has a key
            data = new_device_data(device, first=key[0] not in users, ip=ips)
            told.append(
                Event(
                    kind=EventKind.SESSION_NEW_DEVICE,
                    subject=event.subject,
                    user_id=event.user_id,
                    data=data,
                )
            )
        users.add(key[0])
        devices.add(key)
    return told


def _key(session: Session) -> Key | None:
    device: Device | None = session.device
    if session.user_id is None or session.impersonator is not None or device is None:
        return None
    return (session.user_id, *device.known_by)


def _known(tx: Tx, keys: Sequence[Key]) -> tuple[set[str], set[Key]]:
    """Return which of these users were seen before, and on which of these devices."""
    users: set[str] = set()
    devices: set[Key] = set()
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        params: dict[str, str] = {}
        for i, (user_id, name, kind) in enumerate(some):
            params |= {f"user_{i}": user_id, f"name_{i}": name, f"kind_{i}": kind}
        (row,) = tx.rows(_asking(len(some)), params)
        users |= {key[0] for i, key in enumerate(some) if row[2 * i]}
        devices |= {key for i, key in enumerate(some) if row[2 * i + 1]}
    return users, devices


@cache
def _asking(count: int) -> str:
    return "SELECT " + ", ".join(KNOWN.replace("#", str(i)) for i in range(count))
