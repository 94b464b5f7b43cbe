"""The doctor in a server: quick checks every few minutes, a whole examination or a repair when asked for.

What was found last is kept, check by check, for whoever asks how it goes. Runs have threads of their
own: a store that hangs holds up nobody else. They take turns: what is asked for while one is under way
comes after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from msgspec import Struct

from sojourn.clock import host_now
from sojourn.doctor.doctor import Doctor, Examined, Mended, worst
from sojourn.errors import RepairBusy, SojournError
from sojourn.finding import Area, Board, Check, Posted, Verdict
from sojourn.log import get_logger

log = get_logger(__name__)

STOP_TIMEOUT = 5.0
"""Seconds to wait, when the server stops, for a run under way."""
QUEUE_MAX = 8
"""Runs that may wait for their turn."""


class Latest(Struct, frozen=True):
    """What a check found last, and when; `at` in ms, by this host's clock: the store's may be down."""

    seen: Examined
    at: int


class Repairs(Struct, frozen=True):
    """Whose repair of what: of these checks' findings, or of whatever can be."""

    actor: str
    ids: tuple[str, ...] = ()


class Run:
    """An examination, or a repair and the examination after it. Safe from several threads.

    Attributes:
        checks: what it will look at.
        repairs: which checks' findings it is to repair, and for whom; None: it only looks.
        ahead: the run that has to end before this one begins.
        seen: what it has looked at so far; `mended`: what it has mended.
        fault: what kept it from its end, if anything did; nothing else is lost.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        *,
        repairs: Repairs | None = None,
        ahead: Run | None = None,
    ) -> None:
        self.checks = tuple(checks)
        self.repairs = repairs
        self.ahead = ahead
        self.seen: list[Examined] = []
        self.mended: list[Mended] = []
        self.fault: SojournError | None = None
        self._over = threading.Event()
        self._listeners: list[Callable[[], None]] = []

    @property
    def over(self) -> bool:
        return self._over.is_set()

    @property
    def verdict(self) -> Verdict:
        return worst(self.seen)

    @property
    def current(self) -> Run:
        """Return the run that it waits for and that is under way; itself, once its turn has come."""
        run, ahead = self, self.ahead
        while ahead is not None and not ahead.over:
            run, ahead = ahead, ahead.ahead
        return run

    def wait_for_end(self) -> None:
        self._over.wait()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each change, on whatever thread made it. Return what undoes this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def end(self) -> None:
        self._over.set()
        self.tell()

    def tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()


class Rounds:
    """`note` is told of each repair that is asked for, and of what it mended: for the audit trail. What
    was found last is what any process found that posts to the same `board`."""

    def __init__(
        self,
        doctor: Doctor,
        *,
        note: Callable[[str, Sequence[Mended]], None] | None = None,
        board: Board | None = None,
        now: Callable[[], int] = host_now,
    ) -> None:
        self._doctor = doctor
        self._note = note
        self._board = board
        self._posted: tuple[Posted, ...] = ()
        self._shared: dict[str, Latest] = {}  # of the posted, the latest
        self._now = now
        self._lock = threading.Lock()
        self._latest: dict[str, Latest] = {}
        self._looking: Run | None = None
        self._last: Run | None = None  # of the queue
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self.repairing = False

    def again(self, command: str) -> str:
        """Complete a command of ours, so that it works as printed on what is looked at here."""
        return self._doctor.again(command)

    def checks(self) -> list[Check]:
        """Say what there is to look at, in order."""
        return self._doctor.checks()

    def latest(self) -> dict[str, Latest]:
        """Return what each check found last, by its id. Those that were never asked are missing."""
        with self._lock:
            self._look_at_board()
            return _later(self._shared, self._latest)

    def _look_at_board(self) -> None:
        posted = self._board.read() if self._board is not None else ()
        if posted is self._posted:
            return
        checks = {check.id: check for check in self.checks()}
        found = [_latest(each, checks[each.check]) for each in posted if each.check in checks]
        self._shared = {}
        for each in found:
            self._shared = _later(self._shared, {each.seen.check.id: each})
        self._posted = posted

    def _post(self) -> None:
        """Show the other processes what this one found."""
        if self._board is None:
            return
        with self._lock:
            latest = list(self._latest.values())
        self._board.post([_posted(each) for each in latest])

    @property
    def looking(self) -> Run | None:
        """Return the examination under way, if there is one."""
        run = self._looking
        return None if run is None or run.over else run

    def areas(self, verdict: Verdict) -> list[Area]:
        """Say in which areas something was found, last, to be so."""
        found = {each.seen.check.area for each in self.latest().values() if _is(each, verdict)}
        return [area for area in Area if area in found]

    def quick(self) -> None:
        """Run the quick checks. The log gets a line for each check that changed for better or worse."""
        changed: list[Examined] = []
        for seen in self._doctor.examine(quick=True):
            if self._stopping.is_set():
                return
            changed += self._keep(seen)
        self._tell(changed)
        self._post()

    def look(self) -> Run:
        """Examine everything, on a thread. Whoever asks while that is under way gets the same run."""
        with self._lock:
            run = self.looking
            if run is None:
                run = self._looking = self._start(None, self._examine)
        return run

    def mend(self, ids: Sequence[str] = (), *, actor: str) -> Run:
        """Repair, on a thread, and examine everything afterwards. The run's fault is RepairBusy where
        another doctor repairs: then nothing was done. Who asks for the same twice gets the same run."""
        repairs = Repairs(actor, tuple(ids))
        with self._lock:
            queue = self._queue()
            for run in queue:
                if run.repairs == repairs:
                    return run
            if len(queue) > QUEUE_MAX:
                return _refused(self.checks(), repairs)
            return self._start(repairs, self._mend)

    def stop(self) -> None:
        """Let runs end at their next check. A repair is waited for a little; killed, it resumes when
        asked for again."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP_TIMEOUT)
        self._doctor.close()

    def _queue(self) -> list[Run]:
        """Return the runs that are not over, the last one first."""
        found, run = [], self._last
        while run is not None and not run.over:
            found.append(run)
            run = run.ahead
        return found

    def _start(self, repairs: Repairs | None, work: Callable[[Run], None]) -> Run:
        ahead = next(iter(self._queue()), None)
        run = self._last = Run(self.checks(), repairs=repairs, ahead=ahead)

        def carry_out() -> None:
            try:
                if ahead is not None:
                    forget = ahead.listen(run.tell)
                    ahead.wait_for_end()
                    forget()
                    run.ahead = None
                self._stop_if_asked()
                work(run)
            except SojournError as fault:
                run.fault = fault
            except Exception:
                log.exception("doctor_failed")
                run.fault = SojournError("Doctor failed. The server's log tells more.")
            finally:
                run.end()

        thread = threading.Thread(target=carry_out, name="sojourn-doctor", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()
        return run

    def _stop_if_asked(self) -> None:
        if self._stopping.is_set():
            raise SojournError("The server stops.", code="shutting_down")

    def _examine(self, run: Run) -> None:
        changed: list[Examined] = []
        for seen in self._doctor.examine():
            self._stop_if_asked()
            changed += self._keep(seen)
            run.seen.append(seen)
            run.tell()
        known = {seen.check.id for seen in run.seen}
        with self._lock:
            self._latest = {name: each for name, each in self._latest.items() if name in known}
        self._tell(changed)
        self._post()

    def _mend(self, run: Run) -> None:
        assert run.repairs is not None
        self.repairing = True
        try:
            for mended in self._doctor.repair(run.repairs.ids):
                run.mended.append(mended)
                run.tell()
        finally:
            self.repairing = False
            if self._note is not None and run.mended:
                self._note(run.repairs.actor, run.mended)
        self._examine(run)

    def _keep(self, seen: Examined) -> list[Examined]:
        """Keep what was found; return it if it is better or worse than what was found before."""
        with self._lock:
            before = self._latest.get(seen.check.id)
            self._latest[seen.check.id] = Latest(seen, self._now())
        was = before.seen.finding.verdict if before else Verdict.OK
        return [seen] if seen.finding.verdict.rank != was.rank else []

    def _tell(self, changed: Sequence[Examined]) -> None:
        """Write one line for all that a look has found to be worse, and one for what is well again."""
        worse = [each for each in changed if each.finding.verdict.rank]
        well = [each for each in changed if not each.finding.verdict.rank and not each.waits_for]
        if worse:
            first = max(worse, key=lambda each: each.finding.verdict.rank)
            log.warning(
                "doctor_found",
                check=first.check.id,
                verdict=first.finding.verdict.value,
                title=first.finding.title,
                also=[each.check.id for each in worse if each is not first],
            )
        elif well and not any(x.seen.finding.verdict.rank for x in self.latest().values()):
            log.info("doctor_found", verdict="ok", checks=[each.check.id for each in well])


def _refused(checks: Sequence[Check], repairs: Repairs) -> Run:
    run = Run(checks, repairs=repairs)
    run.fault = RepairBusy(f"{QUEUE_MAX} others wait for their turn already.")
    run.end()
    return run


def _later(one: dict[str, Latest], other: dict[str, Latest]) -> dict[str, Latest]:
    newer = {n: each for n, each in other.items() if n not in one or each.at >= one[n].at}
    return one | newer


def _latest(posted: Posted, check: Check) -> Latest:
    seen = Examined(
        check=check,
        finding=posted.finding,
        milliseconds=posted.milliseconds,
        steps=posted.steps,
    )
    return Latest(seen, posted.at)


def _posted(latest: Latest) -> Posted:
    seen = latest.seen
    return Posted(
        check=seen.check.id,
        finding=seen.finding,
        milliseconds=seen.milliseconds,
        at=latest.at,
        steps=seen.steps,
    )


def _is(each: Latest, verdict: Verdict) -> bool:
    return each.seen.finding.verdict is verdict
