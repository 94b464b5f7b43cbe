"""`sojourn license`: what customers bought."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from sojourn.cli.command import Limit, Yes, command, confirm, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Column, Output, count, span, when
from sojourn.cli.policy import parse_duration, parse_features
from sojourn.cli.server import Server, segment
from sojourn.license import LicenseStatus

app = group("Make and manage licenses.")

Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        metavar="ORIGIN",
        help="Origin whose pages may use it: https://app.example.com, https://*.example.com, "
        "chrome-extension://ID. Repeat. A star must stand before a domain that is yours alone.",
    ),
]
AllotmentTtl = Annotated[
    str | None,
    typer.Option(
        "--allotment-ttl",
        metavar="DURATION",
        help="How long relays go on granting its seats without a word of the authority, such as 30d; "
        "default: as the server has it.",
    ),
]
LicenseId = Annotated[
    str, typer.Argument(metavar="LICENSE", help="Id of a license, such as lic_4kD….")
]


@command(app, "create")
def create(
    server: Server,
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose license it is.")],
    feature: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            "-f",
            metavar="NAME=SEATS",
            help="A feature and its seats, such as editor=5 or viz=10,lost_after=30s. Repeat.",
        ),
    ] = None,
    valid_from: Annotated[
        str | None, typer.Option("--valid-from", metavar="DATE", help="First instant it holds.")
    ] = None,
    valid_until: Annotated[
        str | None,
        typer.Option(
            "--valid-until", metavar="DATE", help="When it ends, such as 2030-01-01 (UTC)."
        ),
    ] = None,
    origin: Origins = None,
    allotment_ttl: AllotmentTtl = None,
) -> None:
    """Make a license and print its key, this once.

    The key is what clients take seats with. Only its hash is kept: when it is lost, replace it with
    `sojourn license rotate-key`.
    """
    body: dict[str, Any] = {"name": name, "features": parse_features(feature or ())}
    for field, text in (("validFrom", valid_from), ("validUntil", valid_until)):
        if text is not None:
            body[field] = parse_date(text)
    if origin:
        body["allowedOrigins"] = origin
    if allotment_ttl is not None:
        body["allotmentTtl"] = _ttl(allotment_ttl)
    made = server.post("/api/licenses", body)
    if out.as_json:
        out.json(made)
        return
    out.say(f"Made license {made['name']}. Its key is shown this once.")
    out.facts([("license", made["licenseId"]), ("key", made["key"])])
    show_features(out, made)


@command(app, "list")
def list_(
    server: Server,
    out: Output,
    status: Annotated[
        LicenseStatus | None,
        typer.Option("--status", metavar="STATUS", help="active or suspended only."),
    ] = None,
    limit: Limit = 1_000,
) -> None:
    """List licenses."""
    found = list(server.pages("/api/licenses", limit=limit, status=status))
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say("There is no license yet. Make one: sojourn license create NAME --feature editor=5")
        return
    out.say(f"{count(len(found), 'license')}.")
    out.table(
        [
            Column("Name"),
            Column("Status"),
            Column("Capacity", figure=True),
            Column("Features", drop=1),
            Column("Valid until", whole=True, drop=2),
            Column("License", whole=True),
        ],
        [
            (
                x["name"],
                x["status"],
                f"{sum(f['capacity'] for f in x.get('features', ())):,}",
                ", ".join(f["feature"] for f in x.get("features", ())),
                when(x.get("validUntil")),
                x["licenseId"],
            )
            for x in found
        ],
    )


@command(app, "show")
def show(server: Server, out: Output, license_id: LicenseId) -> None:
    """Show a license with its features."""
    found = server.get(f"/api/licenses/{segment(license_id)}")
    if out.as_json:
        out.json(found)
        return
    show_license(out, found)


@command(app, "set")
def set_(
    server: Server,
    out: Output,
    license_id: LicenseId,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Whose license it is.")
    ] = None,
    valid_from: Annotated[
        str | None, typer.Option("--valid-from", metavar="DATE", help="First instant it holds.")
    ] = None,
    valid_until: Annotated[
        str | None, typer.Option("--valid-until", metavar="DATE", help="When it ends.")
    ] = None,
    origin: Origins = None,
    no_origins: Annotated[
        bool, typer.Option("--no-origins", help="Allow no page of another origin.")
    ] = False,
    allotment_ttl: AllotmentTtl = None,
) -> None:
    """Rename or re-date a license, or say which pages may use it.

    What is not given stays. The origins given replace all that were allowed.
    """
    body: dict[str, Any] = {} if name is None else {"name": name}
    for field, text in (("validFrom", valid_from), ("validUntil", valid_until)):
        if text is not None:
            body[field] = parse_date(text)
    if origin or no_origins:
        body["allowedOrigins"] = origin or []
    if allotment_ttl is not None:
        body["allotmentTtl"] = _ttl(allotment_ttl)
    if not body or (origin and no_origins):
        raise Failure(
            "Nothing was changed.",
            why="--origin and --no-origins exclude each other."
            if origin
            else "No option says what.",
            todo=f"sojourn license set {license_id} --origin https://app.example.com",
            exit_code=ExitCode.USAGE,
        )
    data = server.ask("PATCH", f"/api/licenses/{segment(license_id)}", body=body).data
    if out.as_json:
        out.json(data)
        return
    out.say(f"Changed license {data['name']}.")
    show_license(out, data)


@command(app, "suspend")
def suspend(server: Server, out: Output, license_id: LicenseId) -> None:
    """Suspend a license.

    Nobody gets a seat, and none is renewed: those held now run out within lost_after.
    """
    _change(server, out, license_id, {"status": "suspended"}, "Suspended license {}.")


@command(app, "resume")
def resume(server: Server, out: Output, license_id: LicenseId) -> None:
    """Resume a suspended license."""
    _change(server, out, license_id, {"status": "active"}, "License {} is active again.")


@command(app, "delete")
def delete(server: Server, out: Output, license_id: LicenseId, yes: Yes = False) -> None:
    """Delete a license and its features.

    Its seats end at once. It cannot be undone.
    """
    path = f"/api/licenses/{segment(license_id)}"
    found = server.get(path)
    confirm(
        f"Delete license {found['name']} ({license_id})? Its seats end at once, its key dies.",
        yes=yes,
    )
    server.ask("DELETE", path)
    if out.as_json:
        out.json({"licenseId": license_id, "deleted": True})
        return
    out.say(f"Deleted license {found['name']}.")


@command(app, "rotate-key")
def rotate_key(server: Server, out: Output, license_id: LicenseId, yes: Yes = False) -> None:
    """Replace a license's key and print the new one, this once.

    The old one stops at once. Seats held now are kept: they are renewed by their own tokens.
    """
    path = f"/api/licenses/{segment(license_id)}"
    found = server.get(path)
    confirm(
        f"Replace the key of license {found['name']}? Clients with the old key get no new seats.",
        yes=yes,
    )
    made = server.post(f"{path}/key")
    if out.as_json:
        out.json(made)
        return
    out.say(f"License {made['name']} has a new key, shown this once.")
    out.facts([("license", made["licenseId"]), ("key", made["key"])])


def _change(server: Server, out: Output, license_id: str, body: dict[str, Any], text: str) -> None:
    data = server.ask("PATCH", f"/api/licenses/{segment(license_id)}", body=body).data
    if out.as_json:
        out.json(data)
        return
    out.say(text.format(data["name"]))


def _ttl(text: str) -> float | None:
    if text.strip().lower() == "default":
        return None
    try:
        return parse_duration(text)
    except ValueError as fault:
        raise Failure(
            "Nothing was changed.",
            why=str(fault),
            todo="Write it like --allotment-ttl 30d.",
            exit_code=ExitCode.USAGE,
        ) from None


def show_license(out: Output, found: dict[str, Any]) -> None:
    out.facts(
        [
            ("name", found["name"]),
            ("license", found["licenseId"]),
            ("status", found["status"]),
            ("made", when(found["createdAt"])),
            ("valid from", when(found.get("validFrom")) or "always"),
            ("valid until", when(found.get("validUntil")) or "forever"),
            *(("origin", each) for each in found.get("allowedOrigins") or ()),
            *(("allotments", span(x)) for x in (found.get("allotmentTtl"),) if x),
        ]
    )
    show_features(out, found)


def show_features(out: Output, found: dict[str, Any]) -> None:
    features = found.get("features") or []
    out.say()
    if not features:
        out.say(
            "It has no features yet. Add one: "
            f"sojourn feature set {found['licenseId']} NAME --capacity N"
        )
        return
    out.table(
        [
            Column("Feature"),
            Column("Seats", figure=True),
            Column("Beat (s)", figure=True, drop=3),
            Column("Lost after (s)", figure=True),
            Column("Linger (s)", figure=True, drop=4),
            Column("Resume", figure=True, drop=5),
            Column("Counts by", drop=2),
            Column("When full", drop=1),
        ],
        [
            (
                f["feature"],
                f"{f['capacity']:,}",
                f"{f['heartbeatInterval']:g}",
                f"{f['lostAfter']:g}",
                f"{f['linger']:g}",
                span(f["resumeWindow"]),
                f["countBy"],
                f["whenFull"],
            )
            for f in features
        ],
    )
    for f in features:
        if f.get("overdraft"):
            out.say(
                f"{f['feature']}: {count(f['overdraft'], 'seat')} above the capacity may be granted."
            )
        for each in f.get("reservations", ()):
            members = [f"user {x}" for x in each.get("users", ())]
            members += [f"group {x}" for x in each.get("groups", ())]
            members += [f"kind {x}" for x in each.get("kinds", ())]
            out.say(
                f"{f['feature']}: {each['seats']:,} reserved as {each['name']} for {', '.join(members)}."
            )


def parse_date(text: str) -> str:
    """Read a date or instant; one without a zone is UTC. Return it for the wire."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(
            f"The date {text!r} was not understood.",
            why="It is not a date as ISO 8601 writes them.",
            todo="Write it like 2030-01-31 or 2030-01-31T18:00:00+01:00.",
            exit_code=ExitCode.USAGE,
        ) from None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
