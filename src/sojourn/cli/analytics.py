"""`sojourn analytics`: how seats were used, what would have been, what the coming weeks will likely need."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from sojourn.analytics.parquet import Cells, Kind, parquet
from sojourn.cli.command import Limit, Yes, command, confirm, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Column, Output, span, when
from sojourn.cli.scope import duration
from sojourn.cli.server import Server

CALLS = "/api/analytics"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHADES = " ░▒▓█"

USAGE = (
    *(Cells("at", Kind.INSTANT), Cells("peak", Kind.WHOLE), Cells("p95", Kind.WHOLE)),
    *(Cells("p50", Kind.WHOLE), Cells("mean", Kind.FIGURE), Cells("denied", Kind.WHOLE)),
    *(Cells("capacity", Kind.WHOLE), Cells("full", Kind.FIGURE)),
)
WEEK = (
    *(Cells("weekday", Kind.WHOLE), Cells("hour", Kind.WHOLE), Cells("mean", Kind.FIGURE)),
    *(Cells("peak", Kind.WHOLE), Cells("hours", Kind.WHOLE)),
)
SHARES = (
    *(Cells("name", Kind.TEXT), Cells("held", Kind.FIGURE)),
    *(Cells("granted", Kind.WHOLE), Cells("denied", Kind.WHOLE)),
)

License = Annotated[str, typer.Argument(metavar="LICENSE", help="Id of a license.")]
Feature = Annotated[str, typer.Argument(metavar="FEATURE", help="One of its features.")]
Last = Annotated[
    str | None,
    typer.Option("--last", metavar="TIME", help="How far back: 24h, 7d, 365d.", show_default="7d"),
]
Csv = Annotated[
    bool,
    typer.Option("--csv", help="Write comma-separated values.", show_default=False),
]

ParquetFile = Annotated[
    Path | None,
    typer.Option("--parquet", metavar="FILE", help="Write a Parquet file.", show_default=False),
]

app = group(
    """Tell how seats were used, exactly and not from samples.

    What would one seat more have changed? sojourn analytics what-if LICENSE FEATURE --seats 1
    """
)


@command(app, "usage")
def usage(
    server: Server,
    out: Output,
    license_id: License,
    feature: Feature,
    last: Last = None,
    unit: Annotated[
        str | None,
        typer.Option("--unit", metavar="UNIT", help="hour or day.", show_default=False),
    ] = None,
    csv_: Csv = False,
    parquet_: ParquetFile = None,
) -> None:
    """Show how many seats were in use, hour by hour or day by day."""
    query = _of(license_id, feature, last) | ({"unit": unit} if unit else {})
    found = server.get(f"{CALLS}/usage", **query)
    if out.as_json:
        out.json(found)
        return
    if _exported(USAGE, found["points"], csv_=csv_, file=parquet_, out=out):
        return
    if "knownSince" not in found:
        out.say("Nothing was measured yet. Events are measured within seconds.")
        return
    full = f", and none was left for {span(found['full'])}" if found["full"] else ""
    of = f" of {found['capacity']:,}" if "capacity" in found else ""
    out.say(
        f"At most {found['peak']:,}{of} seats were in use at once, {found['p95']:,} or fewer for 95 % of the "
        f"time{full}."
    )
    out.table(
        [
            Column("From", whole=True),
            Column("Most", figure=True),
            Column("95 %", figure=True, drop=1),
            Column("Half", figure=True, drop=2),
            Column("Mean", figure=True, drop=3),
            Column("Seats", figure=True),
            Column("Refused", figure=True),
        ],
        [
            (
                when(x["at"]),
                f"{x['peak']:,}",
                f"{x['p95']:,}",
                f"{x['p50']:,}",
                f"{x['mean']:.1f}",
                f"{x['capacity']:,}" if "capacity" in x else None,
                f"{x['denied']:,}" if x["denied"] else None,
            )
            for x in found["points"]
        ],
    )


@command(app, "reasons")
def reasons(
    server: Server, out: Output, license_id: License, feature: Feature, last: Last = None
) -> None:
    """Show why seats ended, for how long they were held, and for how long by nobody."""
    found = server.get(f"{CALLS}/usage", **_of(license_id, feature, last))["counts"]
    if out.as_json:
        out.json(found)
        return
    out.table(
        [Column("Ended", whole=True), Column("Seats", figure=True)],
        [(name.replace("_", " "), f"{number:,}") for name, number in found["ended"].items()],
    )
    for name, words in (
        ("held", "were held"),
        ("ghosts", "were held by nobody, from the last beat on,"),
        ("waits", "came after waiting in the line"),
    ):
        told = found[name]
        if told["count"]:
            out.say(
                f"{told['count']:,} {words} for {span(told['mean'])} on the mean, "
                f"{span(told['longest'])} at the longest."
            )


@command(app, "week")
def week(
    server: Server,
    out: Output,
    license_id: License,
    feature: Feature,
    last: Last = None,
    zone: Annotated[
        str, typer.Option("--zone", metavar="ZONE", help="Whose clock: Europe/Oslo.")
    ] = "UTC",
    csv_: Csv = False,
    parquet_: ParquetFile = None,
) -> None:
    """Show at which hours of the week seats are used."""
    found = server.get(f"{CALLS}/week", **_of(license_id, feature, last), zone=zone)
    if out.as_json:
        out.json(found)
        return
    cells = found["cells"]
    if _exported(WEEK, cells, csv_=csv_, file=parquet_, out=out):
        return
    most = max((x["mean"] for x in cells), default=0) or 1
    out.say(f"The darkest hour had {most:,.1f} seats in use on the mean. Hours of {zone}, 0 to 23:")
    for day, name in enumerate(WEEKDAYS):
        row = cells[24 * day : 24 * day + 24]
        said = "".join(SHADES[round((len(SHADES) - 1) * x["mean"] / most)] for x in row)
        out.say(f"{name} {said}")


@command(app, "shares")
def shares(
    server: Server,
    out: Output,
    license_id: License,
    feature: Feature,
    last: Last = None,
    by: Annotated[str, typer.Option("--by", metavar="WHOM", help="user or client.")] = "user",
    limit: Limit = 50,
    csv_: Csv = False,
    parquet_: ParquetFile = None,
) -> None:
    """Show who held seats for the longest."""
    query = _of(license_id, feature, last)
    told = server.get(f"{CALLS}/shares", **query, by=by, limit=limit)
    found, others = told["items"], told["others"]
    if out.as_json:
        out.json(told)
        return
    if _exported(SHARES, found, csv_=csv_, file=parquet_, out=out):
        return
    if not found:
        out.say("Nobody held a seat.")
        return
    out.table(
        [
            Column("Client" if by == "client" else "User", whole=True),
            Column("Held", figure=True),
            Column("Grants", figure=True, drop=1),
            Column("Refused", figure=True),
        ],
        [(x["name"], span(x["held"]), f"{x['granted']:,}", f"{x['denied'] or '':}") for x in found],
    )
    if any(others.values()):
        refused = f", {others['denied']:,} refusals" if others["denied"] else ""
        out.say(f"All others: {span(others['held'])}, {others['granted']:,} grants{refused}.")


@command(app, "denials")
def denials(server: Server, out: Output, last: Last = None, limit: Limit = 100) -> None:
    """Show refusals by incident: those that follow one another closely."""
    query = {key: value for key, value in _of("", "", last).items() if value}
    found = server.get(f"{CALLS}/incidents", **query, limit=limit)["items"]
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say("Nobody was refused.")
        return
    out.table(
        [
            Column("Began", whole=True),
            Column("License", drop=2),
            Column("Feature", whole=True),
            Column("Refusals", figure=True),
            Column("In use", figure=True, drop=1),
            Column("Who"),
        ],
        [
            (
                when(x["startedAt"]),
                x["licenseId"],
                x["feature"],
                f"{x['refusals']:,}",
                f"{x['inUse']:,} of {x['limit']:,}",
                ", ".join(x["users"]),
            )
            for x in found
        ],
    )


@command(app, "what-if")
def what_if(
    server: Server,
    out: Output,
    license_id: License,
    feature: Feature,
    last: Last = None,
    seats: Annotated[
        int, typer.Option("--seats", metavar="N", help="So many more, or fewer: --seats -2.")
    ] = 0,
    lost_after: Annotated[
        str | None,
        typer.Option("--lost-after", metavar="TIME", help="Instead of the policy's."),
    ] = None,
    suspect_after: Annotated[
        str | None,
        typer.Option("--suspect-after", metavar="TIME", help="Instead of the policy's."),
    ] = None,
    linger: Annotated[
        str | None, typer.Option("--linger", metavar="TIME", help="Instead of the policy's.")
    ] = None,
    when_full: Annotated[
        str | None,
        typer.Option("--when-full", metavar="RULE", help="Instead of the policy's."),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Who is refused waits for so long."),
    ] = None,
) -> None:
    """Replay the past with another policy, and say who would have been refused. Nothing is changed."""
    body: dict[str, Any] = _of(license_id, feature, last) | {"seats": seats}
    body |= {"whenFull": when_full} if when_full else {}
    for name, value in (
        ("lostAfter", lost_after),
        ("suspectAfter", suspect_after),
        ("linger", linger),
        ("wait", wait),
    ):
        if value is not None:
            body[name] = duration(name, value)
    found = server.post(f"{CALLS}/what-if", body)
    if out.as_json:
        out.json(found)
        return
    told = found["whatIf"]
    out.say(
        f"{told['denied']:,} refusals instead of {found['recorded']:,}, "
        f"from {when(found['since'])} to {when(found['until'])}. "
        f"At most {told['peak']:,} seats in use at once."
    )
    if told["waited"] or told["gaveUp"]:
        out.say(
            f"{told['waited']:,} waited for {span(told['meanWait'])} on the mean, "
            f"{span(told['longestWait'])} at the longest; {told['gaveUp']:,} waited in vain."
        )
    if told["refusedUsers"]:
        out.say("Refused: " + ", ".join(told["refusedUsers"][:20]))


@command(app, "forecast")
def forecast(
    server: Server,
    out: Output,
    license_id: License,
    feature: Feature,
    weeks: Annotated[int, typer.Option("--weeks", metavar="N", help="1 to 8.")] = 4,
) -> None:
    """Forecast the busiest moment of each day, with its measured error."""
    query = {"licenseId": license_id, "feature": feature, "weeks": weeks}
    found = server.get(f"{CALLS}/forecast", **query)
    if out.as_json:
        out.json(found)
        return
    if not found["days"]:
        out.say(f"Three whole weeks are needed; {found['weeksKnown']} are known.")
        return
    out.say(
        f"The same forecast for {found['tried']:,} days that have passed was off by "
        f"{found['error']:.1f} seats on the mean; {found['covered']:.0%} of them lay between low and high."
    )
    out.table(
        [
            Column("Day", whole=True),
            Column("Most", figure=True),
            Column("Low", figure=True),
            Column("High", figure=True),
        ],
        [
            (x["at"][:10], f"{x['expected']:.1f}", f"{x['low']:.1f}", f"{x['high']:.1f}")
            for x in found["days"]
        ],
    )


@command(app, "rebuild")
def rebuild(server: Server, out: Output, yes: Yes = False) -> None:
    """Measure anew what the events that are kept still tell; earlier days stay."""
    confirm("Measure all events again? Until that is done, the latest days are missing.", yes=yes)
    done = server.post(f"{CALLS}/rebuild")
    if out.as_json:
        out.json(done)
        return
    kept = "Nothing was changed: the events that are kept do not tell all that would be replaced."
    out.say("It is measured anew." if done["begun"] else kept)


def _of(license_id: str, feature: str, last: str | None) -> dict[str, Any]:
    query: dict[str, Any] = {"licenseId": license_id, "feature": feature}
    if last is not None:
        since = datetime.now(UTC) - timedelta(seconds=_duration(last))
        query["since"] = since.isoformat(timespec="seconds").replace("+00:00", "Z")
    return query


def _duration(text: str) -> float:
    days = text.endswith("d") and text[:-1].isdecimal() and len(text) < 6
    found = int(text[:-1]) * 86_400.0 if days else duration("last", text)
    if not 0 < found < 5 * 366 * 86_400:
        raise Failure(
            "--last was not understood.",
            why="It must be more than nothing, and less than five years.",
            todo="Write it like --last 30d.",
            exit_code=ExitCode.USAGE,
        )
    return found


def _exported(
    table: tuple[Cells, ...],
    items: list[dict[str, Any]],
    *,
    csv_: bool,
    file: Path | None,
    out: Output,
) -> bool:
    """Write a table as CSV, to standard output, or as a Parquet file. False if neither was asked for."""
    names = tuple(column.name for column in table)
    if file is not None:
        rows = [[x.get(name) for name in names] for x in items]
        try:
            file.write_bytes(parquet(table, rows))
        except OSError as fault:
            raise Failure(
                f"{file} was not written.",
                why=str(fault.strerror),
                todo="Name a file in a folder that is there.",
                exit_code=ExitCode.USAGE,
            ) from fault
        out.say(f"{file} has {len(rows):,} rows.")
        return True
    if csv_:
        _write(names, [[x.get(name, "") for name in names] for x in items])
    return csv_


def _write(names: tuple[str, ...], rows: list[list[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([[guarded(value) for value in row] for row in rows])


def guarded(value: Any) -> Any:
    """Keep a spreadsheet from taking a name for a formula."""
    return (
        "'" + value
        if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
        else value
    )
