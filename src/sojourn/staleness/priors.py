"""What is expected of a client before it is known: by what kind of thing it runs on.

Kinds are those of `device.Device.kind`. Where these numbers come from: docs/adr/0039.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from sojourn.clock import SECOND
from sojourn.device import Device
from sojourn.license import Policy
from sojourn.staleness.phi import Expectation

THROTTLED = 60 * SECOND
"""Chrome runs the timers of a page that is hidden for five minutes once a minute (since version 88)."""


class ClientClass(StrEnum):
    """A kind of client, by how it beats."""

    DESKTOP = "desktop"
    TAB = "browser tab"
    MOBILE = "mobile"
    WORKER = "extension"
    SERVICE = "service"
    UNKNOWN = "unknown"


class Prior(Struct, frozen=True, kw_only=True):
    """Shares of the pool's heartbeat interval, but for `throttled`."""

    deviation: float
    stall: float  # the share of beats that are late because the client has stalled
    stall_length: float
    dropped: float  # the suspicion that a dropped socket, or a goodbye, raises by itself
    # The chance that a living client does not answer within a second whose socket seems to be dead: pings
    # are answered by its system or its browser, and by no timer.
    deaf: float
    throttled: int = 0  # ms; beats may come as rarely as this, at any time, unannounced


PRIORS = {
    # A socket of a program drops when the program ends, and is open again within a second otherwise.
    ClientClass.DESKTOP: Prior(
        deviation=0.10, stall=0.002, stall_length=0.5, dropped=2.0, deaf=0.002
    ),
    ClientClass.TAB: Prior(
        deviation=0.15, stall=0.005, stall_length=0.5, dropped=1.0, deaf=0.005, throttled=THROTTLED
    ),
    # Radio comes and goes, and phones suspend what is not on the screen.
    ClientClass.MOBILE: Prior(deviation=0.25, stall=0.20, stall_length=1.0, dropped=0.3, deaf=0.20),
    # Chrome sets alarms of extensions off every 30 s at most, Firefox every 60, "or arbitrarily later".
    ClientClass.WORKER: Prior(
        deviation=0.20, stall=0.02, stall_length=0.7, dropped=0.5, deaf=0.01, throttled=THROTTLED
    ),
    ClientClass.SERVICE: Prior(
        deviation=0.10, stall=0.002, stall_length=0.5, dropped=2.0, deaf=0.002
    ),
    ClientClass.UNKNOWN: Prior(
        deviation=0.25, stall=0.05, stall_length=1.0, dropped=0.5, deaf=0.01, throttled=THROTTLED
    ),
}

_KINDS = {
    "desktop": ClientClass.DESKTOP,
    "program": ClientClass.DESKTOP,
    "phone": ClientClass.MOBILE,
    "tablet": ClientClass.MOBILE,
    "mobile": ClientClass.MOBILE,
    "extension": ClientClass.WORKER,
    "server": ClientClass.SERVICE,
    "service": ClientClass.SERVICE,
}


def class_of(device: Device | None) -> ClientClass:
    """Say what kind of client a device runs. One with a browser on a desktop is a tab."""
    if device is None:
        return ClientClass.UNKNOWN
    found = _KINDS.get(device.kind or "", ClientClass.UNKNOWN)
    if device.browser is not None and found in (ClientClass.DESKTOP, ClientClass.UNKNOWN):
        return ClientClass.TAB
    return found


def prior_expectation(kind: ClientClass, policy: Policy) -> Expectation:
    """Return what is expected of a client of which nothing else is known."""
    prior, interval = PRIORS[kind], policy.heartbeat_interval
    return Expectation(
        due=interval,
        deviation=prior.deviation * interval,
        stall=prior.stall,
        stall_length=prior.stall_length * interval,
    )
