"""`sojourn feature`: the features of a license, each a pool of seats with a policy."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.command import Yes, command, confirm, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.license import LicenseId, show_features
from sojourn.cli.output import Output
from sojourn.cli.policy import (
    PANEL,
    Knobs,
    camel,
    flag_of,
    merge,
    parse_reservations,
    parse_value,
)
from sojourn.cli.server import Server, segment

app = group("Set and remove the features of a license.")

FeatureName = Annotated[
    str, typer.Argument(metavar="FEATURE", help="Name of a feature, such as editor.")
]


@command(app, "set")
def set_(
    server: Server,
    out: Output,
    license_id: LicenseId,
    feature: FeatureName,
    capacity: Annotated[
        int | None,
        typer.Option("--capacity", "-c", min=0, metavar="N", help="Seats.", rich_help_panel=PANEL),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Start from the defaults, not from what it has.")
    ] = False,
    **knobs: Knobs,
) -> None:
    """Add a feature to a license, or change one it has.

    What is left out stays as it is; a new feature takes the defaults. Fewer seats end nobody's: the
    pool shrinks as they are given back.
    """
    body = _body(knobs) if capacity is None else {"capacity": capacity, **_body(knobs)}
    found = server.get(f"/api/licenses/{segment(license_id)}")
    current = next((f for f in found.get("features", ()) if f["feature"] == feature), None)
    body = merge(None if reset else current, body)
    if "capacity" not in body:
        raise Failure(
            f"How many seats {feature} has was not said.",
            why=f"License {found['name']} has no feature {feature} yet.",
            todo=f"Add --capacity N: sojourn feature set {license_id} {feature} --capacity 5",
            exit_code=ExitCode.USAGE,
        )
    path = f"/api/licenses/{segment(license_id)}/features/{segment(feature)}"
    data = server.ask("PUT", path, body=body).data
    if out.as_json:
        out.json(data)
        return
    verb = "Added" if current is None else "Changed"
    out.say(f"{verb} feature {feature} of license {found['name']}.")
    show_features(out, {"licenseId": license_id, "features": [data]})


@command(app, "remove")
def remove(
    server: Server, out: Output, license_id: LicenseId, feature: FeatureName, yes: Yes = False
) -> None:
    """Remove a feature from a license; its seats end at once."""
    found = server.get(f"/api/licenses/{segment(license_id)}")
    confirm(f"Remove {feature} from license {found['name']}? Its seats end at once.", yes=yes)
    path = f"/api/licenses/{segment(license_id)}/features/{segment(feature)}"
    server.ask("DELETE", path)
    if out.as_json:
        out.json({"licenseId": license_id, "feature": feature, "removed": True})
        return
    out.say(f"Removed feature {feature} from license {found['name']}.")


def _body(given: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, said in given.items():
        if said is None or said == []:
            continue
        try:
            body[camel(name)] = (
                parse_reservations(said) if name == "reservations" else parse_value(name, str(said))
            )
        except ValueError as error:
            raise Failure(
                f"{flag_of(name)} was not understood.",
                why=str(error),
                todo="See `sojourn feature set --help`.",
                exit_code=ExitCode.USAGE,
            ) from None
    return body
