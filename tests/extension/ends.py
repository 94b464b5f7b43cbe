"""The ends that a seat's browser may meet, and what becomes of the seat, by the clock on the wall.

Each is tried twice. Once somebody else needs the seat and asks for it without a pause: when does he have it?
And once nobody does: has ada kept it, where she goes on?
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct
from tests.extension.browser import DEADLINE
from tests.extension.stage import Rival, Stage, staged
from tests.serving import Served

POLICY = {"heartbeatInterval": 5, "lostAfter": 40, "linger": 2}
"""Seconds: short, but longer than the half minute after which an alarm starts a worker again."""
LOST_AFTER = float(POLICY["lostAfter"])
SHORT, LONG = 8.0, LOST_AFTER + 5.0  # seconds for which somebody is away
GHOST_MAX = 3.0
"""Seconds for which who needs the seat may wait for a ghost that could still speak, or be asked."""
SETTLE = 6.0
"""Seconds for which the rival goes on asking after ada is back: more than two rounds of questions."""


class End(Struct, frozen=True, kw_only=True):
    """Something that happens to a browser.

    Attributes:
        prepare: what comes before.
        act: lets it happen.
        heal: what follows, where ada goes on: she comes back by herself, or by this.
        lives: whether she goes on.
        away: seconds from the one to the other.
        hold: when the extension holds the seat: always, or while there is a tab of the application.
        yields: where she goes on, and yet may lose the seat to who needs it: nobody could speak for her.
        within: where she is gone, seconds for which a ghost may hold the seat.
        begun: tells, by how often the worker was started before, whether it has happened yet.
    """

    name: str
    prepare: Callable[[Stage], object] = lambda _: None
    act: Callable[[Stage], object]
    heal: Callable[[Stage], object] = lambda _: None
    lives: bool = True
    away: float = 0.0
    hold: str = "always"
    cable: bool = False
    yields: bool = False
    within: float = GHOST_MAX
    begun: Callable[[Stage, int], bool] = lambda _stage, _boots: True


class Seen(Struct, frozen=True, kw_only=True):
    """What became of a seat, in seconds. `free_after`: until the rival had it; None: he never did.
    `back_after`: from the moment at which ada was back until she had it (again)."""

    end: str
    needed: bool
    free_after: float | None = None
    kept: str = ""  # kept, again, lost; empty: she is gone
    away: float = 0.0  # seconds until whatever was away was there again
    back_after: float | None = None
    told: list[str] = []  # what her popup has shown meanwhile
    yields: bool = False
    within: float = 0.0  # for how long a ghost may hold it
    sockets: int | None = None  # left at the end, but for one of who has the seat


def _reload(stage: Stage) -> None:
    stage.browser.evaluate(stage.monitor, "void setTimeout(() => chrome.runtime.reload())")
    stage.until(
        lambda: not any(x["targetId"] == stage.monitor for x in stage.browser.targets("page"))
    )


def _stop_worker(stage: Stage) -> None:
    stage.browser.stop_workers(stage.monitor)


def _pull(stage: Stage) -> None:
    assert stage.proxy is not None
    stage.proxy.blackhole()


def _plug(stage: Stage) -> None:
    assert stage.proxy is not None
    stage.proxy.pass_through()


def _close_tab(stage: Stage) -> None:
    stage.browser.close(stage.tab)


def _move_to_a_window(stage: Stage) -> None:
    stage.open_window()
    _close_tab(stage)


def _started(stage: Stage, boots: int) -> bool:
    return stage.boots > boots


ENDS = (
    End(
        name="one of two tabs closed",
        hold="tabs",
        prepare=lambda stage: stage.open_tab(),
        act=_close_tab,
    ),
    End(name="last tab closed", hold="tabs", act=_close_tab, lives=False),
    End(
        name="its last window closed",
        hold="tabs",
        prepare=_move_to_a_window,
        act=lambda stage: stage.close_windows(),
        lives=False,
    ),
    End(name="browser quit", act=lambda stage: stage.browser.quit(), lives=False),
    End(name="browser ended by SIGTERM", act=lambda stage: stage.browser.terminate(), lives=False),
    End(name="whole tree killed by SIGKILL", act=lambda stage: stage.browser.kill(), lives=False),
    End(
        name=f"frozen for {SHORT:.0f} s",
        act=lambda stage: stage.browser.freeze(),
        heal=lambda stage: stage.browser.wake(),
        away=SHORT,
        yields=True,
    ),
    End(
        name=f"frozen for {LONG:.0f} s",
        act=lambda stage: stage.browser.freeze(),
        heal=lambda stage: stage.browser.wake(),
        away=LONG,
        yields=True,
    ),
    End(name="worker stopped, a tab is open", hold="tabs", act=_stop_worker, begun=_started),
    End(name="worker stopped, no tab", act=_stop_worker, yields=True, begun=_started),
    End(
        name=f"network off for {SHORT:.0f} s",
        act=_pull,
        heal=_plug,
        away=SHORT,
        cable=True,
        yields=True,
    ),
    End(
        name=f"network off for {LONG:.0f} s",
        act=_pull,
        heal=_plug,
        away=LONG,
        cable=True,
        yields=True,
    ),
    End(name="extension reloaded", act=_reload),
    End(
        name="server restarted",
        act=lambda stage: stage.server.stop(),
        heal=lambda stage: stage.server.start(),
    ),
    End(
        name="server killed, then started",
        act=lambda stage: stage.server.kill(),
        heal=lambda stage: stage.server.start(),
    ),
)


def tried(end: End, server: Served, folder: Path, *, needed: bool, policy: Any = POLICY) -> Seen:
    """Let it happen to a browser that has the seat, and watch."""
    with staged(server, folder, policy=policy, cable=end.cable) as stage:
        stage.sign_in(end.hold)
        end.prepare(stage)
        rival = Rival(server, stage.key)
        try:
            return (_lived if end.lives else _gone)(end, stage, rival, needed=needed)
        finally:
            rival.give_back()


def _gone(end: End, stage: Stage, rival: Rival, *, needed: bool) -> Seen:
    """She does not come back: only somebody who needs the seat can tell when it was free."""
    assert needed
    began = time.monotonic()
    end.act(stage)
    rival.start()
    free = rival.granted(DEADLINE)
    sockets = _sockets_left(stage, 0)
    return Seen(
        end=end.name,
        needed=True,
        within=end.within,
        free_after=_since(began, rival) if free else None,
        sockets=sockets,
    )


def _lived(end: End, stage: Stage, rival: Rival, *, needed: bool) -> Seen:
    before = stage.boots
    began = time.monotonic()
    if needed:
        rival.start()
    end.act(stage)
    if end.away:
        rival.granted(end.away) if needed else threading.Event().wait(end.away)
    end.heal(stage)
    healed = time.monotonic()
    lost = needed and _back(end, stage, before, rival)
    if lost:
        rival.give_back()
    stage.until(lambda: end.begun(stage, before) and stage.holds(), LOST_AFTER + DEADLINE)
    back = time.monotonic()
    if needed and not lost:
        lost = rival.granted(SETTLE)
        if lost:
            rival.give_back()
            stage.until(stage.holds, LOST_AFTER + DEADLINE)
    same = stage.lease()["leaseId"] == stage.lease_id
    told = list(dict.fromkeys(stage.states))
    kept = "lost" if lost and not same else "again" if lost or "lost" in told else "kept"
    return Seen(
        end=end.name,
        needed=needed,
        yields=end.yields,
        free_after=_since(began, rival) if lost else None,
        kept=kept if same or lost else "lost",
        away=healed - began,
        back_after=back - healed,
        told=told,
        sockets=_sockets_left(stage, 1) - 1,
    )


def _back(end: End, stage: Stage, before: int, rival: Rival) -> bool:
    """Wait until ada has the seat, or the rival; tell whether it is he."""
    stage.until(
        lambda: rival.granted_at is not None or (end.begun(stage, before) and stage.holds()),
        LOST_AFTER + DEADLINE,
    )
    return rival.granted_at is not None


def _since(began: float, rival: Rival) -> float | None:
    return None if rival.granted_at is None else rival.granted_at - began


def _sockets_left(stage: Stage, wanted: int) -> int:
    """Return how many sockets are left once nothing changes any more."""
    try:
        stage.until(lambda: stage.sockets() == wanted, LOST_AFTER)
    except TimeoutError:
        return stage.sockets()
    return wanted
