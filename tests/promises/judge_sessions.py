"""The promises about sessions, held to what clients saw."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

from tests.promises.case import MARGIN, Case
from tests.promises.history import Record

NEVER = float("inf")


@dataclass(eq=False, slots=True)
class Life:
    """What clients saw of one session."""

    begin: Record
    uses: list[Record] = field(default_factory=list)
    enders: list[Record] = field(default_factory=list)
    rotations: list[Record] = field(default_factory=list)
    saves: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))


class Sessions:
    """All sessions of a history, and when they ended."""

    def __init__(self, case: Case) -> None:
        self.lives: dict[str, Life] = {}
        self._case = case
        self._ended: dict[str, Record | None] = {}
        self._may_end: dict[str, float] = {}
        by_user: dict[str, list[str]] = defaultdict(list)
        for record in case.records:
            if record.op == "begin" and record.fine and record.said.get("id"):
                self.lives[record.said["id"]] = Life(record)
                by_user[record.ask["u"]].append(record.said["id"])
        for record in case.records:
            self._sort(record, by_user)

    def _sort(self, record: Record, by_user: dict[str, list[str]]) -> None:
        own = self.lives.get(record.ask.get("id", ""))
        if own is not None:
            own.uses.append(record)
        if own is not None and record.op == "save":
            own.saves[record.ask["k"]].append(record)
        elif own is not None and record.op == "rotate":
            own.rotations.append(record)
        elif own is not None and record.op == "end":
            own.enders.append(record)
        elif record.op in ("others", "cutoff"):
            for id_ in by_user[record.ask["u"]]:
                life = self.lives[id_]
                if life is not own and self._case.until(record) >= life.begin.sent:
                    life.enders.append(record)

    def ended(self, session: str | None) -> Record | None:
        """Return the request whose answer says that a session is over; None: none does."""
        if session is None or session not in self.lives:
            return None
        if session not in self._ended:
            self._ended[session] = self._end(self.lives[session])
        return self._ended[session]

    def _end(self, life: Life) -> Record | None:
        assert life.begin.done is not None
        sure = [
            record
            for record in life.enders
            if record.fine and record.sent > life.begin.done and not self._case.lost(record)
        ]
        # What was begun meanwhile is not meant by a sign-out, so one that overlaps proves nothing.
        return min(sure, key=lambda record: record.closed, default=None)

    def may_end(self, session: str | None) -> float:
        """Say when somebody may first have ended a session; never, if nobody tried."""
        if session is None or session not in self.lives:
            return NEVER
        if session not in self._may_end:
            # `enders` are those that may have acted once it had begun.
            enders = self.lives[session].enders
            times = [r.sent for r in enders if r.fine or self._case.doubtful(r)]
            self._may_end[session] = min(times, default=NEVER)
        return self._may_end[session]


def judge(case: Case) -> Sessions:
    sessions = Sessions(case)
    for id_, life in sessions.lives.items():
        end, may_end = sessions.ended(id_), sessions.may_end(id_)
        for record in life.uses:
            case.checked["uses of a session"] += 1
            _after_end(case, end, record)
            _while_live(case, life, may_end, record)
            _rotated(case, life, record)
        _reads(case, life)
    return sessions


def _accepted(record: Record) -> bool:
    if record.op in ("end", "others"):
        return record.fine and record.op == "end" and bool(record.said.get("n"))
    return record.fine


def _after_end(case: Case, end: Record | None, record: Record) -> None:
    """After an end that was answered no request that starts later is accepted."""
    if end is None or end.done is None or record.sent <= end.done or record is end:
        return
    if _accepted(record):
        text = f"{record.op} of a session was accepted {record.sent - end.done:.2f} s after its end"
        case.blame("ended-session", text, end, record)


def _while_live(case: Case, life: Life, may_end: float, record: Record) -> None:
    """A session that was begun, and that nobody ended, is there."""
    if record.fine:
        said_id, said_user = record.said.get("id"), record.said.get("u")
        if record.op in ("check", "rotate") and (
            said_id != record.ask["id"] or said_user != record.ask["u"]
        ):
            case.blame("wrong-session", "somebody else's session was answered", record)
        return
    if record.status not in (401, 404) or record.done is None or may_end <= record.done:
        return
    turn = record.ask["t"]
    if any(r.ask["t"] == turn and r.sent < record.done and not _refused(r) for r in life.rotations):
        return  # its token may have been replaced
    made = [r for r in life.rotations if r.ask["t"] == turn - 1 and r.fine]
    if case.lost(life.begin) or any(map(case.lost, made)):
        case.relaxed["begun or rotated in the store's last second"] += 1
        return
    text = f"a session that nobody had ended was refused: {record.said.get('code')}"
    case.blame("session-lost", text, life.begin, *made[-1:], *life.enders[:2], record)


def _refused(record: Record) -> bool:
    return record.done is not None and 400 <= record.status < 500


def _rotated(case: Case, life: Life, record: Record) -> None:
    """A token that was replaced dies after its grace."""
    if not _accepted(record):
        return
    turn = record.ask["t"]
    for rotation in life.rotations:
        if rotation is record or rotation.ask["t"] != turn or not rotation.fine:
            continue
        if case.lost(rotation):
            continue
        assert rotation.done is not None
        late = record.sent - rotation.done - case.facts.grace
        if late > MARGIN:
            text = f"a replaced token was accepted {late:.2f} s after its grace"
            case.blame("rotated-token", text, rotation, record)


def _reads(case: Case, life: Life) -> None:
    """A value that was saved and acknowledged is read, or one that was saved later."""
    reads = [r for r in life.uses if r.op == "check" and r.fine]
    for key, saves in life.saves.items():
        values = {save.ask["v"]: save for save in saves}
        sure = [save for save in saves if save.fine and not case.lost(save)]
        sure.sort(key=lambda save: save.closed)
        closed = [save.closed for save in sure]
        newest: list[Record] = []  # of the first so many, the one with the highest value
        for save in sure:
            better = not newest or save.ask["v"] > newest[-1].ask["v"]
            newest.append(save if better else newest[-1])
        for read in reads:
            case.checked["reads"] += 1
            value = (read.said.get("d") or {}).get(key)
            at = bisect_left(closed, read.sent)
            latest = newest[at - 1] if at else None
            _read(case, life, read, key, value, values, latest)


def _read(
    case: Case,
    life: Life,
    read: Record,
    key: str,
    value: object,
    values: dict[int, Record],
    latest: Record | None,
) -> None:
    if not isinstance(value, int):
        case.blame("value", f"key {key} of a session is {value!r}", life.begin, read)
        return
    source = values.get(value)
    if value != 0 and (source is None or source.sent > read.closed):
        case.blame("value", f"key {key} has the value {value}, which nobody saved", read)
        return
    if latest is None or value >= latest.ask["v"]:
        return
    older = life.begin if source is None else source
    if latest.sent > case.until(older):
        text = f"key {key} is {value} although {latest.ask['v']} was saved and acknowledged"
        case.blame("write-lost", text, older, latest, read)
