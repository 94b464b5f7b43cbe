"""`sojourn adopt` from an older license backend: the seats of the living, and what is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from sojourn.cli.adopting import AdoptedFrom, usage
from sojourn.cli.failure import ExitCode, Failure, reason
from sojourn.cli.output import Column, Output, count
from sojourn.log import mask_text
from sojourn.settings import Settings

if TYPE_CHECKING:
    from sojourn.ledger import Ledger
    from sojourn.license import Pool
    from sojourn.store import Store
    from sojourn.stores.redis.old_seats import CounterSeen

WHY = {
    "silent": "Their last heartbeat is older than lostAfter: nobody sits there.",
    "inactive": "The old system had ended them (status, ended_at …).",
    "unclear_status": "Their status is a word that says neither that they go on nor that they are over.",
    "no_user": "Nobody is named as their holder.",
    "bad_user": "The user is no plain id, or longer than 256 characters.",
    "no_token": "They have no token, so no client is told by them.",
    "no_license": "Which license of ours is meant is not known: name it with --license.",
    "no_feature": "That license of ours has no such feature: make it first, with sojourn feature set.",
    "bad_date": "When they were heard of last cannot be read, or lies in the future: see --timezone.",
    "no_seat": "Every seat of the pool is taken.",
    "license_suspended": "The license is suspended: it grants nothing.",
    "license_expired": "The license has expired: it grants nothing.",
    "license_not_yet_valid": "The license is not valid yet: it grants nothing.",
}


class SeatOptions(Struct, frozen=True, kw_only=True):
    """Of the command line."""

    licenses: Sequence[str]
    zone: tzinfo
    told: str  # how the zone is known
    named: bool  # by --timezone
    apply: bool


def adopt_seats(
    out: Output, origin: AdoptedFrom, settings: Settings, options: SeatOptions, report: Path | None
) -> None:
    """Take the living's seats over, and tell of the others. Raises Failure."""
    from sojourn.adopt import seats

    with _opened(settings) as (store, ledger):
        if not options.named:
            _check_zone(origin, options, store.now())
        pools = _pools(ledger)
        terms = seats.SeatTerms(
            licenses=_licenses(options.licenses, pools, ledger), zone=options.zone
        )
        tally = seats.SeatTally()
        seats.adopt_seats(origin.batches(), store, pools, terms, tally, write=options.apply)
    odd = [each for each in origin.counters() if each.said != each.sessions]
    facts = {
        "source": {"kind": origin.kind, "name": origin.name, "timezone": options.told},
        "store": mask_text(settings.store_url),
        "applied": options.apply,
        **msgspec.to_builtins(tally),
        "counters": [msgspec.to_builtins(each) for each in odd],
    }
    if report is not None:
        try:
            report.write_text(
                msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n"
            )
        except OSError as error:
            out.aside.print(f"The report was not written: {reason(error)}", markup=False)
    if out.as_json:
        out.json(facts)
        return
    _tell(out, tally, odd, options)


def _check_zone(origin: AdoptedFrom, options: SeatOptions, now: int) -> None:
    """Raise Failure where the heartbeats tell that their times are not of the zone that is assumed."""
    from sojourn.adopt import seats

    future, lately = seats.beats_ahead(origin.batches(), options.zone, now)
    if future > lately:
        raise usage(
            f"{count(future, 'heartbeat')} of the living would lie in the future, and {lately:,} in the last"
            f" hour: the times are not of {options.told}.",
            "Name the zone of whoever wrote them with --timezone, as Europe/Oslo.",
        )


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Store, Ledger]]:
    from sojourn.cli.database import store_failure
    from sojourn.errors import StoreError
    from sojourn.stores.open import open_ledger, open_store

    try:
        store = open_store(settings.store_url)
        with contextlib.closing(store):
            ledger = open_ledger(settings.ledger_url)
            with contextlib.closing(ledger):
                yield store, ledger
    except StoreError as error:
        raise store_failure(settings, error) from None


def _pools(ledger: Ledger) -> dict[tuple[str, str], Pool]:
    from sojourn.store import LIST_MAX

    found: dict[tuple[str, str], Pool] = {}
    after: str | None = None
    while page := ledger.pools(after=after, limit=LIST_MAX):
        found |= {(each.license_id, each.feature): each for each in page}
        after = page[-1].id
    return found


def _licenses(
    given: Sequence[str], pools: Mapping[tuple[str, str], Pool], ledger: Ledger
) -> dict[str, str]:
    """Read `--license`: OURS, or OLD=OURS for each. With one license of ours, that is meant."""
    from sojourn.adopt.seats import ALL

    found = {}
    for each in given:
        old, sign, named = each.rpartition("=")
        found[old if sign else ALL] = named
    ours = sorted({license_id for license_id, _ in pools})
    if not given and len(ours) == 1:
        return {ALL: ours[0]}
    unknown = sorted({each for each in found.values() if ledger.license(each) is None})
    if not found or unknown:
        why = (
            f"There is no license {unknown[0]!r}."
            if unknown
            else "Which license is meant was not said."
        )
        there = ", ".join(f"{k} ({v})" for k, v in sorted(ledger.license_names(ours).items()))
        raise Failure(
            "No seat was adopted.",
            why=why,
            todo=f"Name one with --license; there are: {there or 'none yet: sojourn license create'}.",
            exit_code=ExitCode.NOT_FOUND if unknown else ExitCode.USAGE,
        )
    return found


def _tell(out: Output, tally: Any, odd: Iterable[CounterSeen], options: SeatOptions) -> None:
    dead = sum(
        tally.skipped[name].count for name in ("silent", "inactive") if name in tally.skipped
    )
    out.facts(
        [
            ("time zone", options.told),
            ("read", f"{tally.read:,}"),
            (
                "seats taken over" if options.apply else "seats that would be taken over",
                f"{tally.taken:,}",
            ),
            ("already there", f"{tally.already_there:,}"),
            ("dead, left behind", f"{dead:,}"),
        ]
    )
    if tally.skipped:
        columns = [
            Column("Skipped", whole=True),
            Column("Rows", figure=True),
            Column("Why"),
            Column("Such as", drop=1),
        ]
        out.table(
            columns,
            [
                (name, f"{each.count:,}", WHY.get(name, ""), ", ".join(each.examples))
                for name, each in sorted(tally.skipped.items(), key=lambda item: -item[1].count)
            ],
        )
    for each in odd:
        out.say(
            f"The counter {each.key} says {each.said:,}, and {count(each.sessions, 'session')} of"
            f" {each.feature} {'is' if each.sessions == 1 else 'are'} there."
        )
    if not options.apply:
        out.say("Nothing was written. Add --apply to take the seats over.")
        return
    out.say(
        "Holders keep these seats until they acquire here with `takeover`, or fall silent for lostAfter."
    )
