"""`sojourn hold`: take a seat as a program would, and keep it until interrupted."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sojourn.cli.command import Data, Json, Url
from sojourn.cli.failure import ENDS, ExitCode, Failure, fault
from sojourn.cli.output import STYLES, Output, build_table, count, span
from sojourn.cli.policy import parse_duration
from sojourn.cli.server import find
from sojourn.errors import InvalidToken, SojournError

if TYPE_CHECKING:
    from rich.text import Text

    from sojourn.client import Change, Client, Seat, SeatDenied, Waiting

TICK = 0.2  # seconds between two looks at the live line
HOLDERS_MAX = 10  # rows of a denial

WORDS = {
    "granted": "the server granted it",
    "renewed": "a heartbeat counted again",
    "resumed": "the same lease came back",
    "overdue": "a heartbeat is overdue",
    "server_unreachable": "the server does not answer",
    "unreachable": "the server could not be reached in time",
    "expired": "its lease ran out",
    "released": "it was given back",
    "evicted": "it went to somebody who needed it, while this client was silent",
    "seat_limit": "every seat is in use",
}


class Stopped(BaseException):
    """SIGTERM or Ctrl-C, on its way up through whatever was waiting."""


def hold(
    feature: Annotated[
        str, typer.Argument(metavar="FEATURE", help="What to take a seat on, such as editor.")
    ],
    user: Annotated[str, typer.Option("--user", "-u", metavar="USER", help="Who sits on it.")],
    license_key: Annotated[
        str,
        typer.Option(
            "--license-key",
            metavar="KEY",
            envvar="SOJOURN_LICENSE_KEY",
            help="License key (sjk_…). Better in SOJOURN_LICENSE_KEY.",
        ),
    ],
    client: Annotated[
        str | None,
        typer.Option(
            "--client",
            metavar="NAME",
            help="Name of this client; whoever comes back under it gets its seat back. "
            "Default: from the user and this machine.",
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Keep asking for so long: 30, 5m, forever."),
    ] = None,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="If full, take it from the user's other client.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Take a seat and keep it until interrupted.

    Ctrl-C or SIGTERM gives it back. SIGKILL leaves a ghost, on purpose: its seat is free again
    lost_after later. With --json, prints one object for each change of state.

    SAFE: the last heartbeat counted. JEOPARDY: one is late, the seat is still yours. LOST: it is not.
    """
    keeper = Keeper(Output(as_json=as_json), feature, user)
    keeper.run(
        find(url, None, data).url,
        license_key,
        client=client or _client_name(user),
        wait=_patience(wait),
        takeover=takeover,
    )


def _client_name(user: str) -> str:
    """Tell users of one machine apart, and copies of this command that run side by side."""
    from sojourn.client import default_client_id

    return default_client_id(user)


def _patience(text: str | None) -> float | None:
    if text is None:
        return None
    if text == "forever":
        return math.inf
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Failure(
            "--wait was not understood.",
            why=str(error),
            todo="Write it like 30, 5m or forever.",
            exit_code=ExitCode.USAGE,
        ) from None


class Keeper:
    """Takes one seat, keeps it, and says what becomes of it."""

    def __init__(self, out: Output, feature: str, user: str) -> None:
        self.out = out
        self.feature = feature
        self.user = user
        self._over = threading.Event()
        self._lost: Failure | None = None
        self._waiting: Waiting | None = None
        self._began = time.monotonic()

    def run(self, url: str, license_key: str, **wish: Any) -> None:
        from sojourn.client import Client, SeatDenied

        client_id, wait, takeover = wish["client"], wish["wait"], wish["takeover"]
        try:
            client = Client(url, license_key=license_key)
        except InvalidToken as error:
            raise fault(error, "The license key was not understood.") from None
        with client:
            seat = client.seat(
                self.feature,
                user=self.user,
                client_id=client_id,
                wait=wait,
                takeover=takeover,
                on_change=self._changed,
                on_wait=self._waits,
            )
            try:
                with _signals(), self._live(seat):
                    seat.acquire()
                    self._stay()
            except Stopped:
                self._give_back(seat, client)
            except SeatDenied as denied:
                raise self._denied(denied) from None
            except SojournError as error:
                raise fault(error, f"No seat on {self.feature} was taken.") from None
        if self._lost is not None:
            raise self._lost

    def _stay(self) -> None:
        while not self._over.wait(TICK):
            pass  # signals interrupt the wait; the client's threads do the rest

    def _give_back(self, seat: Seat, client: Client) -> None:
        """Give the seat back, and say so only if the server has confirmed it. Raises Failure otherwise."""
        held, before, left = seat.held, seat.state, seat.expires_in
        last = self._as_json(seat, "released", before, "released")
        given = seat.release() or client.close() == 0 or not held
        if self.out.as_json:
            self.out.json({**last, "givenBack": given}, lines=True)
        elif given:
            self.out.say("Gave the seat back." if held else "Stopped; no seat was held.")
        if not given:
            raise Failure(
                f"The seat on {self.feature} was not given back.",
                why="The server did not answer.",
                todo=f"Wait: it is free by itself in {span(max(0.0, left))} at most.",
                exit_code=ExitCode.UNAVAILABLE,
            )

    # --- what becomes of it ---

    def _changed(self, change: Change) -> None:
        """Report a change of state. Runs on the client's thread for callbacks, which may not live
        long enough to report the last one: `_give_back` does."""
        if change.state == "released":
            return
        if self.out.as_json:
            said = self._as_json(change.seat, change.state, change.before, change.reason)
            self.out.json({**said, "resumed": change.resumed}, lines=True)
        else:
            self._tell(change)
        if change.state == "lost":
            self._judge(change.seat)

    def _judge(self, seat: Seat) -> None:
        """End where the client will not try to come back: somebody meant the loss."""
        from sojourn.client import SeatLost

        try:
            seat.check()
        except SeatLost as lost:
            if not lost.resumable:
                self._lost = Failure(
                    lost.message,
                    why=f"The server says: {lost.reason.replace('_', ' ')}.",
                    todo=lost.hint or "Take it again: run this command again.",
                    exit_code=ExitCode.DENIED,
                )
                self._over.set()

    def _tell(self, change: Change) -> None:
        from rich.text import Text

        seat, state = change.seat, str(change.state)
        why = WORDS.get(change.reason, change.reason.replace("_", " "))
        line = Text.assemble(
            (f"{datetime.now():%H:%M:%S}  ", "dim"),  # noqa: DTZ005 - the reader's own clock
            (f"{state.upper():<8}", STYLES.get(state, "")),
            f"  {why}",
        )
        if change.state == "safe" and change.before not in ("safe", "jeopardy"):
            line.append(f" (fence {seat.fence}, {seat.lease_id})", style="dim")
        self.out.console.print(line)

    def _as_json(self, seat: Seat, state: str, before: str, reason: str) -> dict[str, Any]:
        return {
            "at": now_text(),
            "state": state,
            "before": before,
            "reason": reason,
            "resumed": False,
            "feature": self.feature,
            "userId": self.user,
            "clientId": seat.client_id,
            "leaseId": seat.lease_id,
            "fence": seat.fence,
            "expiresIn": round(seat.expires_in, 3),
        }

    def _waits(self, waiting: Waiting) -> None:
        """Note that every seat is in use. Runs on the thread that acquires, before each pause."""
        self._waiting = waiting
        if self.out.as_json:
            said = {"at": now_text(), "state": "waiting", "nextIn": round(waiting.next_in, 3)}
            self.out.json({**said, **refusal(waiting.error)}, lines=True)
        elif not self.out.console.is_terminal:
            self.out.say(f"WAITING  {self._why_waiting(waiting)}")

    def _why_waiting(self, waiting: Waiting) -> str:
        error = waiting.error
        limit = getattr(error, "limit", None)
        what = (
            f"{count(limit, 'seat')}, all in use"
            if limit is not None
            else error.message.rstrip(".")
        )
        holders = ", ".join(h.user_id for h in getattr(error, "holders", ())[:3])
        by = f"; held by {holders}" if holders else ""
        if (place := waiting.position) is None:
            return f"{what}; next try in {span(waiting.next_in)}{by}"
        soon = "" if waiting.estimate is None else f", about {span(waiting.estimate)} to go"
        return f"{what}; number {place} in the line{soon}{by}"

    def _denied(self, denied: SeatDenied) -> Failure:
        if self.out.as_json:
            said = {"at": now_text(), "state": "denied"}
            self.out.json({**said, **refusal(denied)}, lines=True)
        else:
            self._show_holders(denied)
        doubt = f", {denied.suspect} of them suspect" if denied.suspect else ""
        return Failure(
            f"{denied.message}: {denied.in_use} of {count(denied.limit, 'seat')} on "
            f"{self.feature} in use{doubt}.",
            why=_most_silent(denied),
            todo=f"Try again in {span(denied.retry_after)}, or wait in line with --wait 5m"
            + (", or take your own other seat with --takeover." if denied.mine else "."),
            exit_code=ExitCode.DENIED,
        )

    def _show_holders(self, denied: SeatDenied) -> None:
        if not denied.holders:
            return
        from sojourn.cli.output import Column, figure

        columns = [
            Column("Holder"),
            Column("State"),
            Column("Held", figure=True, drop=1),
            Column("Last beat (s)", figure=True),
            Column("Left (s)", figure=True, drop=2),
            Column("On", drop=3),
        ]
        rows = [
            (
                h.user_id,
                h.state,
                span(h.held_for),
                figure(h.last_beat_ago),
                figure(h.expires_in),
                h.device.name if h.device else None,
            )
            for h in denied.holders[:HOLDERS_MAX]
        ]
        self.out.aside.print(build_table(columns, rows, self.out.aside.width))

    # --- the live line ---

    @contextlib.contextmanager
    def _live(self, seat: Seat) -> Iterator[None]:
        if self.out.as_json or not self.out.console.is_terminal:
            yield
            return
        from rich.live import Live

        render = _Line(self, seat)
        with Live(render, console=self.out.console, refresh_per_second=1 / TICK, transient=True):
            yield

    def line(self, seat: Seat) -> Text:
        """Write the live line: what is true now."""
        from rich.text import Text

        state = str(seat.state)
        if state == "new":
            waiting = self._waiting
            text = "asking" if waiting is None else self._why_waiting(waiting)
            return Text.assemble(
                ("WAITING ", "yellow"),
                f"  {self.feature} for {self.user}: {text}",
                no_wrap=True,
                overflow="ellipsis",
            )
        parts = [f"{self.feature} for {self.user}"]
        if seat.held:
            parts.append(f"fence {seat.fence}")
            parts.append(f"next beat in {next_beat(seat):.1f} s")
            parts.append(f"expires in {seat.expires_in:.1f} s")
        elif state == "lost":
            parts.append("trying to get it back")
        style = "bold " + STYLES.get(state, "")
        head = (f"{state.upper():<8}", style)
        return Text.assemble(head, "  ", " · ".join(parts), no_wrap=True, overflow="ellipsis")


class _Line:
    """What `Live` draws, anew each time."""

    def __init__(self, keeper: Keeper, seat: Seat) -> None:
        self._keeper = keeper
        self._seat = seat

    def __rich__(self) -> Text:
        return self._keeper.line(self._seat)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turn the first SIGTERM, Ctrl-C or closed terminal into `Stopped`; ignore more, so that the seat
    is given back."""

    def stop(*_: object) -> None:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    previous = {number: signal.signal(number, stop) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)


def next_beat(seat: Seat) -> float:
    """Say in how many seconds the next heartbeat is due, from what the seat tells of itself."""
    since = (seat.lost_after or 0.0) - seat.expires_in
    return max(0.0, (seat.heartbeat_interval or 0.0) - since)


def refusal(error: Any) -> dict[str, Any]:
    """Describe a refusal for machines."""
    if not hasattr(error, "holders"):
        return {"code": error.code, "error": error.message}
    return {
        "code": error.code,
        "error": error.message,
        "limit": error.limit,
        "inUse": error.in_use,
        "suspect": error.suspect,
        "retryAfter": error.retry_after,
        "mine": error.mine,
        "holders": error.holders,
    }


def _most_silent(denied: SeatDenied) -> str:
    if not denied.holders:
        return "The server does not say who holds them."
    silent = denied.holders[0]
    return (
        f"The most silent holder, {silent.user_id}, beat {span(silent.last_beat_ago)} ago; "
        f"its lease ends in {span(silent.expires_in)} unless it beats."
    )


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
