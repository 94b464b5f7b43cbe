"""How a feature and its policy are written on a command line.

    --feature editor=5
    --feature viz=10,lost_after=30s,when_full=evict_idle,idle_after=15m

Names are those of the policy in `license.Policy`, with `_` or `-`; durations are seconds, or carry a
unit: ms, s, m, h, d.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sojourn.cli.failure import ExitCode, Failure
from sojourn.license import CHOICES, OPTIONAL, POLICY, SEATS

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "": 1.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)")
MEMBERS = {"user": "users", "group": "groups", "kind": "kinds"}
RESERVATION = "support=2:user=ann,user=bob or desks=3:group=staff|kind=desktop"
NONE = "none"  # takes an optional limit away
PANEL = "Policy (durations: 30, 500ms, 30s, 15m, 2h)"


def wrong(what: str, why: str) -> Failure:
    return Failure(
        what,
        why=why,
        todo="Write it like editor=5 or viz=10,lost_after=30s,count_by=user.",
        exit_code=ExitCode.USAGE,
    )


def parse_duration(text: str) -> float:
    """Read seconds. Raises ValueError."""
    match = DURATION.fullmatch(text.strip().lower())
    if match is None or match[2] not in UNITS:
        raise ValueError(f"{text!r} is no duration: write 30, 500ms, 30s, 15m or 2h.")
    return round(float(match[1]) * UNITS[match[2]], 3)


def parse_value(name: str, text: str) -> Any:
    """Read one value of a policy. Raises ValueError, saying what would do."""
    text = text.strip()
    if name in SEATS:
        if not text.isascii() or not text.isdigit():
            raise ValueError(f"{text!r} is no {name}: write how many seats, such as 5.")
        return int(text)
    if name == "reservations":
        raise ValueError("Seats are reserved with `sojourn feature set … --reserve`.")
    if name in CHOICES:
        if text not in tuple(CHOICES[name]):
            raise ValueError(f"{name} is one of {', '.join(CHOICES[name])}, not {text!r}.")
        return text
    if name in OPTIONAL and text.lower() == NONE:
        return None
    return parse_duration(text)


def parse_feature(text: str) -> tuple[str, dict[str, Any]]:
    """Read `name=capacity[,policy=value...]`; return the name and the body for the wire."""
    name, equals, rest = text.partition("=")
    if not equals or not name.strip():
        raise wrong(f"A feature needs a capacity: {text!r}.", "It is written NAME=SEATS.")
    first, *others = rest.split(",")
    body: dict[str, Any] = {}
    try:
        body["capacity"] = parse_value("capacity", first)
        for part in others:
            field, equals, value = part.partition("=")
            field = field.strip().replace("-", "_")
            if not equals or field not in POLICY:
                raise ValueError(f"{part.strip()!r} is no part of a policy: {', '.join(POLICY)}.")
            body[camel(field)] = parse_value(field, value)
    except ValueError as error:
        raise wrong(f"The feature {text!r} was not understood.", str(error)) from None
    return name.strip(), body


def parse_reservations(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Read reservations for the wire; `none` alone takes all away. Raises ValueError."""
    given = list(texts)
    if [text.strip().lower() for text in given] == [NONE]:
        return []
    return [parse_reservation(text) for text in given]


def parse_reservation(text: str) -> dict[str, Any]:
    """Read `name=seats:user=ann,user=bob|group=staff|kind=desktop`; who one of them names counts into it."""
    name, equals, rest = text.partition("=")
    seats, colon, members = rest.partition(":")
    if not (equals and colon and name.strip()):
        raise ValueError(f"{text!r} is no reservation: write {RESERVATION}.")
    body: dict[str, Any] = {"name": name.strip(), "seats": parse_value("capacity", seats)}
    for part in re.split(r"[,|]", members):
        what, equals, who = part.strip().partition("=")
        if (what := what.strip()) not in MEMBERS or not who.strip():
            raise ValueError(
                f"{part.strip()!r} names nobody: write user=NAME, group=NAME or kind=NAME."
            )
        body.setdefault(MEMBERS[what], []).append(who.strip())
    return body


def parse_features(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read several features. A name given twice is a slip of the hand."""
    features: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, body = parse_feature(text)
        if name in features:
            raise wrong(f"The feature {name!r} is given twice.", "Each has one policy.")
        features[name] = body
    return features


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def merge(current: dict[str, Any] | None, given: dict[str, Any]) -> dict[str, Any]:
    """Put what is given over what a feature has, so that raising a capacity resets nothing else.

    A suspect_after that is its default is left out, so that it keeps following the other two.
    """
    if current is None:
        return given
    kept = {k: v for k, v in current.items() if k != "feature" and v is not None}
    follows = min(2 * kept["heartbeatInterval"], kept["lostAfter"])
    if kept.get("suspectAfter") == follows:
        del kept["suspectAfter"]
    return {**kept, **given}


HELP = {
    "heartbeat_interval": "How often a holder beats.",
    "lost_after": "Silence after which a seat is free. With 10s (max_pause) or less, outages of the server "
    "count.",
    "suspect_after": "Silence after which a holder is doubted.",
    "linger": "How long a seat is kept after a goodbye.",
    "resume_window": "How long a lost lease may be resumed.",
    "count_by": "What uses up a seat: user, client or lease.",
    "when_full": "Whom to displace: deny, reclaim_suspect or evict_idle.",
    "idle_after": "Idleness after which evict_idle may act; none.",
    "max_lease": "The longest a lease may live; none.",
    "overdraft": "Seats above the capacity that are granted, marked and reported.",
    "reservations": "Seats kept for users, groups or kinds of devices, such as "
    "support=2:user=ann,group=staff. Repeat; none. What is given replaces all.",
}
METAVARS = {
    "count_by": "WHAT",
    "when_full": "HOW",
    "overdraft": "N",
    "reservations": "NAME=SEATS:WHO",
}
FLAGS = {"reservations": "--reserve"}
TYPES: dict[str, Any] = {**CHOICES, "reservations": list[str]}


def flag_of(name: str) -> str:
    """Name the option of a field."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def _option(name: str) -> Any:
    flag = flag_of(name)
    metavar = METAVARS.get(name, "TIME")
    return typer.Option(
        flag, metavar=metavar, help=HELP[name], rich_help_panel=PANEL, show_default=False
    )


OPTIONS: dict[str, Any] = {
    name: Annotated[(TYPES.get(name, str) | None, _option(name))]
    for name in POLICY
    if name != "capacity"
}
"""An option for each field of a policy, in their order."""
Knobs = Annotated[Any, OPTIONS]
"""What a command takes as `**knobs`: see `command`."""
