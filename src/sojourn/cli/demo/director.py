"""Lets the demo happen: gives people their turns, watches the server, and keeps the tally."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from msgspec import Struct

from sojourn.cli.demo.network import Network
from sojourn.cli.demo.people import GHOSTS, Chance, Fate, Person
from sojourn.cli.demo.stage import LINGER, LOST_AFTER, Stage
from sojourn.cli.demo.tally import Summary, Tally, instant
from sojourn.cli.output import span
from sojourn.cli.server import segment

TICK = 0.1  # seconds
SWEEP_EVERY = 1.0  # seconds; so that the expiries are noted while they can be watched
STAGGER = 0.4  # seconds between two arrivals
PAGE = 1_000
STORY_MAX = 200  # lines kept
DISMISS_TIMEOUT = 3.0  # seconds

STRUCK = {
    Fate.CRASH: "{name}'s program crashed (SIGKILL): a ghost holds the seat for up to {lost}.",
    Fate.GOODBYE: "{name} closed the tab. It said goodbye: the seat lingers for {linger}.",
    Fate.CABLE: "{name}'s network went dead. The seat stays {name}'s for up to {lost}.",
    Fate.LID: "{name} closed the laptop lid (SIGSTOP).",
    Fate.IDLE: "{name} went for coffee. Heartbeats go on, so the seat is kept.",
    Fate.LEAVE: "{name} is done and gives the seat back.",
}
RAN_OUT = "{name}'s seat is free: nothing was heard for {lost}."
LINGERED = "{name}'s seat is free: the tab stayed closed for {linger}."
RUNS_OUT = 0.6  # seconds: a lease that had so little left when last seen, and is gone, ran out
BACK = {
    Fate.CRASH: "{name} starts the program again, as the same client.",
    Fate.GOODBYE: "{name} opens the tab again.",
    Fate.CABLE: "{name}'s network is back.",
    Fate.LID: "{name} opens the lid again.",
    Fate.IDLE: "{name} is back from coffee.",
    Fate.LEAVE: "{name} needs the editor again.",
}


class Line(Struct, frozen=True):
    """One line of the story. `kind` colors it: act, back, denied, freed, seated."""

    at: float  # seconds since the beginning
    kind: str
    text: str


class View(Struct, frozen=True):
    """What the server says right now."""

    capacity: int = 0
    in_use: int = 0
    suspect: int = 0
    leases: dict[tuple[str, str], dict[str, Any]] = {}


class Director:
    """One thread: everything happens in `tick`."""

    def __init__(
        self, stage: Stage, network: Network, *, clients: int, capacity: int, seed: int
    ) -> None:
        self.stage = stage
        self.capacity = capacity
        self.chance = Chance(seed)
        self.tally = Tally(capacity, round(LOST_AFTER * 1000))
        self.people = [Person(i, network.cable(), stage.license_key) for i in range(clients)]
        self.story: deque[Line] = deque(maxlen=STORY_MAX)
        self.view = View(capacity=capacity)
        self.so_far = self.tally.summary()
        self._by_holder = {(p.user, p.client): p for p in self.people}
        self._after = self._last_event()
        self._began = time.monotonic()
        self._swept = 0.0
        for number, person in enumerate(self.people):
            person.due = number * STAGGER

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def tick(self) -> list[Line]:
        """Let what is due happen; return the new lines of the story."""
        before = self.story[-1] if self.story else None
        for person in self.people:
            self._hear(person)
            if self.elapsed >= person.due:
                self._turn(person)
        self._watch()
        return _after(self.story, before)

    def finish(self) -> Summary:
        """Send everybody home, note what expired, and count."""
        for person in self.people:
            person.dismiss()
        deadline = time.monotonic() + DISMISS_TIMEOUT
        for person in self.people:
            person.cable.plug()
            person.wait(max(0.1, deadline - time.monotonic()))
        self._await_ghosts()
        self.stage.server.post("/api/sweeps")
        self._read_events()
        return self.tally.summary()

    def _await_ghosts(self) -> None:
        """Wait until the last lease has run out, so that every ghost is counted to its end."""
        deadline = time.monotonic() + LOST_AFTER + 1.0
        while time.monotonic() < deadline:
            self._look()
            if not self.view.leases:
                return
            time.sleep(TICK)

    def abandon(self) -> None:
        """End every program at once."""
        for person in self.people:
            person.kill()

    # --- people ---

    def _hear(self, person: Person) -> None:
        while not person.said.empty():
            said = person.said.get()
            word = said["said"]
            if word == "safe":
                self._seated(person, said)
            elif word == "lost" and person.fate is None:
                self._set(person, "lost")
            elif word == "goodbye":
                self.tally.died(person.user, person.client, self.stage.now(), round(LINGER * 1000))
            elif word == "waiting" and person.state in ("asking", "lost"):
                person.state = "waiting"

    def _seated(self, person: Person, said: dict[str, Any]) -> None:
        if person.state in ("asking", "waiting", "lost") or said["reason"] != "renewed":
            self._set(person, "holding")
            person.due = self.elapsed + self.chance.held()

    def _turn(self, person: Person) -> None:
        """Do what is due: come, be struck by fate, or come back."""
        if person.state == "holding":
            self._strike(person, self.chance.fate())
        elif person.fate is not None:
            self._return(person, person.fate)
        elif person.state == "away":
            person.start()
            self._ask(person)
        else:
            person.due = self.elapsed + 1.0  # still in line

    def _ask(self, person: Person) -> None:
        person.tell("take")
        self._set(person, "asking")

    def _strike(self, person: Person, fate: Fate) -> None:
        if fate is Fate.CRASH:
            person.kill()
        elif fate is Fate.GOODBYE:
            person.tell("goodbye")
        elif fate is Fate.CABLE:
            person.cable.pull()
        elif fate is Fate.LID:
            person.freeze()
        elif fate is Fate.IDLE:
            person.tell("idle")
        else:
            person.tell("leave")
        if fate in GHOSTS and fate is not Fate.GOODBYE:  # a goodbye counts once it was heard
            self.tally.died(person.user, person.client, self.stage.now(), round(LOST_AFTER * 1000))
        self._tell("act", STRUCK[fate], person)
        self._set(person, fate.value)
        person.fate = fate
        person.due = self.elapsed + self.chance.away(fate)

    def _return(self, person: Person, fate: Fate) -> None:
        person.fate = None
        self._tell("back", BACK[fate], person)
        if fate is Fate.CABLE:
            person.cable.plug()
        elif fate is Fate.LID:
            person.thaw()
        elif fate is Fate.IDLE:
            person.tell("active")
        if fate in (Fate.CABLE, Fate.LID, Fate.IDLE):
            self.tally.revived(person.user, person.client, self.stage.now())
            held = (person.user, person.client) in self.view.leases
            self._set(person, "holding" if held else "lost")  # until the program says otherwise
            person.due = self.elapsed + self.chance.held()
            return
        if fate is Fate.CRASH:
            person.start()
        self._ask(person)

    def _set(self, person: Person, state: str) -> None:
        person.state = state
        person.since = self.elapsed
        if state in ("asking", "lost"):
            person.due = self.elapsed + 1.0

    # --- the server ---

    def _watch(self) -> None:
        swept_at = None
        if self.elapsed - self._swept >= SWEEP_EVERY:
            self._swept = self.elapsed
            swept_at = instant(self.stage.server.post("/api/sweeps")["startedAt"])
        before = self.view.leases
        self._look()  # first what is gone, then who came instead
        for holder, lease in before.items():
            if holder not in self.view.leases and lease.get("expiresIn", 0.0) < RUNS_OUT:
                person = self._by_holder[holder]
                said_goodbye = person.fate is Fate.GOODBYE
                self._tell("freed", LINGERED if said_goodbye else RAN_OUT, person)
        self._read_events()
        if swept_at is not None:
            self.so_far = self.tally.summary(swept_at)

    def _look(self) -> None:
        server, license_id = self.stage.server, self.stage.license_id
        stats = server.get(f"/api/licenses/{segment(license_id)}/session-stats")
        usage = stats["features"][0]["usage"]
        rows = server.pages("/api/licenses/sessions", limit=PAGE, licenseId=license_id)
        self.view = View(
            capacity=usage["capacity"],
            in_use=usage["inUse"],
            suspect=usage["suspect"],
            leases={(r["userId"], r["clientId"]): r for r in rows},
        )

    def _last_event(self) -> int:
        latest = self.stage.server.items("/api/events", newestFirst=True, limit=1)
        return int(latest[0]["id"]) if latest else 0

    def _read_events(self) -> None:
        while True:
            found = self.stage.server.items("/api/events", after=self._after, limit=PAGE)
            for event in found:
                self._after = event["id"]
                if event.get("licenseId") == self.stage.license_id:
                    self.tally.add(event)
                    self._narrate(event)
            if len(found) < PAGE:
                return

    def _narrate(self, event: dict[str, Any]) -> None:
        person = self._by_holder.get((event.get("userId") or "", event.get("clientId") or ""))
        kind, data = event["kind"], event.get("data") or {}
        if person is None:
            return
        if kind == "lease.denied":
            self._tell("denied", _why_denied(data), person)
        elif kind == "lease.waiting":
            self._tell("denied", "{name} finds no seat, and waits in the line.", person)
        elif kind == "lease.evicted":
            silent = span(round(data["silentFor"], 1))
            self._tell("freed", f"{{name}}'s seat was needed, and silent for {silent}.", person)
        elif kind == "lease.acquired":
            self._tell("seated", "{name} has a seat.", person)
        elif kind == "lease.resumed":
            self._tell("seated", "{name} resumed the old lease.", person)
        elif kind == "lease.taken_over":
            self._tell("seated", "{name} kept the old seat, under a new fence.", person)

    def _tell(self, kind: str, text: str, person: Person) -> None:
        words = {"name": person.name, "lost": span(LOST_AFTER), "linger": span(LINGER)}
        self.story.append(Line(self.elapsed, kind, text.format(**words)))


def _why_denied(data: dict[str, Any]) -> str:
    text = f"{{name}} is refused: {data['inUse']} of {data['limit']} seats in use"
    for silent in data.get("holders", [])[:1]:
        ago = span(round(silent["lastBeatAgo"], 1))
        text += f"; most silent: {silent['userId'].capitalize()}, {ago}"
    return text + "."


def _after(story: deque[Line], last: Line | None) -> list[Line]:
    """Return the lines that came after one."""
    fresh: list[Line] = []
    for line in reversed(story):
        if line is last:
            break
        fresh.append(line)
    return fresh[::-1]
