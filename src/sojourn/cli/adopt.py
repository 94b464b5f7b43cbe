"""`sojourn adopt`: take over the sessions that a site has today, so that nobody is signed out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sojourn.cli import source
from sojourn.cli.adopt_seats import SeatOptions, adopt_seats
from sojourn.cli.adopting import (
    SECRET,
    AdoptedFrom,
    guard,
    opened,
    run,
    secrets_of,
    target_of,
    usage,
    zone_of,
)
from sojourn.cli.command import Json
from sojourn.cli.failure import Failure, reason
from sojourn.cli.options import Folder, given
from sojourn.cli.output import Column, Output, count, span
from sojourn.cli.source import Config
from sojourn.log import mask_text

if TYPE_CHECKING:
    from sojourn.adopt.rows import Tally
    from sojourn.settings import Settings

FROM = "SOJOURN_ADOPT_FROM"
KINDS = ("user-sessions", "connect-pg-simple", "django", "flask-session", "license-sessions")

WHY = {
    "expired": "Their time is over.",
    "inactive": "The old system had ended them (is_active, status, ended_at …).",
    "unclear_status": "Their status is a word that says neither that they go on nor that they are over.",
    "no_user": "Nobody is signed in. For visitors' sessions too: --visitors.",
    "bad_user": "The user is no plain id, or longer than 256 characters. See --user-path.",
    "no_token": "They have no token, so no cookie leads to them.",
    "short_token": "The token is shorter than 16 characters: it could be guessed.",
    "bad_token": "The token is longer than 8,192 characters, or is not printable.",
    "other_prefix": "The key does not begin with --prefix.",
    "bad_data": "The data is damaged, or of another format.",
    "pickled": "The data is a pickle, which may run code when it is read: never.",
    "bad_signature": "None of the secrets signed the data.",
    "too_large": "The data is larger than 1 MB.",
    "bad_date": "When they expire cannot be read.",
    "signed_out": "Their user has been signed out everywhere in Sojourn since.",
    "refused": "The store cannot hold one of the values.",
}
REMARKS = {
    "no_expiry": "had no end: they get 7 days",
    "expiry_capped": "would last for over 400 days: they get 400 days",
    "date_ignored": "have a date that cannot be: it counts as unknown",
    "data_converted": "hold what JSON has no word for (dates, bytes): it is text now",
}

From = Annotated[
    str | None,
    given(
        "--from",
        "URL",
        "Database or Redis with the old sessions; only ever read. "
        f"With a password, better in {FROM}: others can read a command line.",
    ),
]
Table = Annotated[
    str | None,
    typer.Option("--table", metavar="NAME", help="Their table, if it is not found by itself."),
]
KindOf = Annotated[str, typer.Option("--kind", metavar="KIND", help=f"auto, {', '.join(KINDS)}.")]
Store = Annotated[
    str | None,
    given("--store", "URL", "Store to adopt into."),
]
Secret = Annotated[
    list[str] | None,
    given("--secret", "SECRET", "The servers' secret. Better in SOJOURN_SECRET."),
]
License = Annotated[
    list[str] | None,
    given(
        "--license",
        "ID",
        "Of seats: the license here that they are of, or OLD=ID for each license_cache_id. Repeat.",
    ),
]
Apply = Annotated[
    bool, typer.Option("--apply", help="Write. Without it, only say what would be written.")
]
UserPath = Annotated[
    str | None,
    typer.Option("--user-path", metavar="A.B", help="Where in the data the user's id is."),
]
Timezone = Annotated[
    str | None,
    typer.Option("--timezone", metavar="ZONE", help="Of times that name none, as Europe/Oslo."),
]
Prefix = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Of Flask-Session's keys.")]
Visitors = Annotated[bool, typer.Option("--visitors", help="Take sessions without a user too.")]
Rolling = Annotated[
    bool,
    typer.Option(
        "--rolling",
        help="The old site put the end off with every request: make that the idle timeout, and let "
        "sessions live for 7 days from now.",
    ),
]
SecretFile = Annotated[
    Path | None,
    given(
        "--secret-file",
        "FILE",
        f"Django's SECRET_KEY, and its fallbacks, one a line. Or {SECRET}; else you are asked.",
    ),
]
Again = Annotated[
    bool,
    typer.Option(
        "--again",
        help="Adopt more than a day after the first time. Sessions ended in Sojourn meanwhile may "
        "come back.",
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the report as JSON, too."),
]


def adopt(
    old: From = None,
    table: Table = None,
    kind: KindOf = "auto",
    store: Store = None,
    data: Folder = None,
    secret: Secret = None,
    license_: License = None,
    apply: Apply = False,
    user_path: UserPath = None,
    timezone: Timezone = None,
    prefix: Prefix = "session:",
    visitors: Visitors = False,
    rolling: Rolling = False,
    secret_file: SecretFile = None,
    again: Again = False,
    report: ReportFile = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take over the sessions of an application, or an older license backend's seats.

    Nobody is signed out: sessions keep their tokens, users, data and times. Without --apply nothing
    is written, and you see what would be. Interrupted, it goes on when it is run again: what is there
    already is left alone. Then let your application look at the old cookie too: see the guide,
    moving-in.
    """
    from sojourn.adopt.formats import Kind
    from sojourn.adopt.rows import Tally, Terms
    from sojourn.session import LIFETIME

    if kind not in ("auto", *KINDS):
        raise usage(f"There is no kind {kind!r}.", f"Use auto, {', '.join(KINDS)}.")
    out = Output(as_json=as_json)
    settings = source.read({"store": store, "data": data, "secret": secret}, config).settings
    with opened(_from(old), table, None if kind == "auto" else kind, prefix) as origin:
        if not as_json:
            out.facts([("found", f"{origin.name}: {origin.kind}"), ("rows", _rows(origin.total))])
        chosen = Kind(origin.kind)
        zone, told = zone_of(timezone, origin)
        if chosen is Kind.SEATS:
            named = timezone is not None
            options = SeatOptions(
                licenses=license_ or (), zone=zone, told=told, named=named, apply=apply
            )
            adopt_seats(out, origin, settings, options, report)
            return
        terms = Terms(
            kind=chosen,
            zone=zone,
            user_path=tuple(user_path.split(".")) if user_path else None,
            secrets=secrets_of(secret_file) if chosen is Kind.DJANGO else (),
            prefix=prefix,
            visitors=visitors,
            rolling=LIFETIME if rolling else None,
        )
        tally = Tally()
        with target_of(settings, write=apply) as target:
            if apply:
                guard(target, origin, again=again)
            complete, seconds, estimate = run(out, origin, target, terms, tally, write=apply)
        proposed = [] if user_path else _user_paths(origin, tally)
    facts = source_facts(origin, settings, told, apply=apply) | msgspec.to_builtins(tally)
    facts |= {"complete": complete, "seconds": seconds, "estimatedSeconds": estimate}
    _tell(out, facts, report)
    _propose(out, proposed)
    if not complete:
        raise typer.Abort
    _judge(tally)


def source_facts(
    origin: AdoptedFrom, settings: Settings, told: str, *, apply: bool
) -> dict[str, Any]:
    """Say, for the report, where from and where to. `told`: how the time zone is known."""
    return {
        "source": {"kind": origin.kind, "name": origin.name, "timezone": told},
        "store": mask_text(settings.store_url),
        "applied": apply,
    }


def _from(old: str | None) -> str:
    url = old or os.environ.get(FROM, "")
    if not url:
        raise usage(
            "Where the old sessions are was not said.", f"Name it with --from, or in {FROM}."
        )
    return url


def _rows(total: int | None) -> str:
    return "not known before they are read" if total is None else f"{total:,}"


def _tell(out: Output, facts: Mapping[str, Any], report: Path | None) -> None:
    if report is not None:
        text = msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()
        try:
            report.write_text(text + "\n")
        except OSError as error:
            out.aside.print(f"The report was not written: {reason(error)}", markup=False)
    if out.as_json:
        out.json(facts)
        return
    applied, skipped = facts["applied"], facts["skipped"]
    if not facts["complete"]:
        out.say("Interrupted. Run it again to go on: what is there already is left alone.")
    rows = [
        ("time zone", facts["source"]["timezone"]),
        ("read", f"{facts['read']:,}"),
        ("taken" if applied else "would be taken", f"{facts['taken']:,}"),
        ("already there", f"{facts['already_there']:,}"),
        ("skipped", f"{sum(each['count'] for each in skipped.values()):,}"),
    ]
    if facts["estimatedSeconds"] is not None:
        rows.append(("--apply may take", span(max(facts["estimatedSeconds"], 1))))
    out.facts(rows)
    if skipped:
        columns = [
            Column("Skipped", whole=True),
            Column("Rows", figure=True),
            Column("Why"),
            Column("Such as", drop=1),
        ]
        table = [
            (name, f"{each['count']:,}", WHY.get(name, ""), ", ".join(each["examples"]))
            for name, each in sorted(skipped.items(), key=lambda item: -item[1]["count"])
        ]
        out.table(columns, table)
    for name, each in facts["remarks"].items():
        examples = ", ".join(each["examples"])
        out.say(f"{count(each['count'], 'session')} {REMARKS.get(name, name)} ({examples})")
    if not applied and facts["complete"]:
        out.say("Nothing was written. Add --apply to adopt them.")


def _propose(out: Output, paths: Sequence[str]) -> None:
    if paths:
        said = " or ".join(f"--user-path {each}" for each in paths)
        out.aside.print(
            f"No row has a user where it was looked for. In their data there may be one: {said}"
        )


def _user_paths(origin: AdoptedFrom, tally: Tally) -> list[str]:
    """Where no row has a user, say where in their data one may be."""
    from sojourn.adopt.formats import Kind
    from sojourn.adopt.rows import likely_user_paths

    without = tally.skipped.get("no_user")
    if without is None or not without.count or tally.taken + tally.already_there:
        return []
    return likely_user_paths(origin.batches(), Kind(origin.kind))


def _judge(tally: Tally) -> None:
    """Fail where every signature is wrong: then it is the secret that is."""
    wrong = tally.skipped.get("bad_signature")
    if wrong is not None and wrong.count and not tally.taken + tally.already_there:
        raise Failure(
            "No session could be read.",
            why=f"The secret did not sign any of {count(wrong.count, 'session')}.",
            todo="Give the SECRET_KEY with which the site runs, and SECRET_KEY_FALLBACKS below it.",
        )
