"""`sojourn express`: sessions beside an Express application."""

from __future__ import annotations

from typing import Annotated

import typer

from sojourn.cli import source
from sojourn.cli.command import Json, add, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.options import given
from sojourn.cli.output import Output
from sojourn.cli.source import Config

app = group("Share sessions with an Express application.")

PREFIX = "express+"


def install(
    store: Annotated[
        str | None,
        given(
            "--store", "URL", "Express's database: express+postgresql://… Default: SOJOURN_STORE."
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="NAME", help="connect-pg-simple's tableName, if set."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option("--schema", metavar="NAME", help="Its schemaName, if set."),
    ] = None,
    user_path: Annotated[
        str | None,
        typer.Option(
            "--user-path",
            metavar="PATH",
            help="Where in req.session the user's id is. Default: passport.user",
        ),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Prepare the database of an Express application.

    Makes a table and three triggers beside connect-pg-simple's table, and that table too if it is
    missing. Express needs no change, and may go on running. Safe to run again.
    """
    from sojourn.adapters.express import install as prepare

    url = store or source.read({}, config).settings.store
    if url.startswith(("postgresql:", "postgres:")):
        url = PREFIX + url
    if not url.startswith(PREFIX):
        raise Failure(
            "There is no Express database to prepare.",
            why=f"The store is {url.partition(':')[0] + ':' if url else 'not set'}",
            todo="Name it: sojourn express install --store express+postgresql://…",
            exit_code=ExitCode.USAGE,
        )
    steps = None if user_path is None else tuple(user_path.split("."))
    name = prepare(url, table=table, schema=schema, user_path=steps)
    out = Output(as_json=as_json)
    if as_json:
        out.json({"installed": name})
        return
    if name.endswith("*"):
        out.say(f"There is nothing to prepare: Redis takes sessions at {name} as they are.")
    else:
        out.say(f"Sojourn is installed beside {name}.")


add(app, "install", install)
