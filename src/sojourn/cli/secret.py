"""`sojourn secret`: make secrets."""

from __future__ import annotations

from sojourn.cli.command import Json, add, group
from sojourn.cli.output import Output
from sojourn.stores.folder import new_secret

app = group("Make secrets.")


def new(as_json: Json = False) -> None:
    """Print a good new secret, for SOJOURN_SECRET or SOJOURN_ADMIN_KEY.

    To replace the secret of running servers without losing a lease, put the new one first:
    SOJOURN_SECRET="NEW,OLD". Drop the old one a day later.
    """
    secret = new_secret()
    if as_json:
        Output().json({"secret": secret})
    else:
        print(secret)  # noqa: T201 - bare, so that $(sojourn secret new) works


add(app, "new", new)
