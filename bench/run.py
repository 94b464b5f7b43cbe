"""Run the benchmarks, print tables, and write what was measured to bench/results/.

make bench                     everything, about half an hour
make bench ARGS="--quick"      the same in about 2 minutes, for a first look
make bench ARGS="--only http"  one of: http stores contended line sessions versus express people
                                    redis overload install imports
make bench ARGS="--only http --store valkey"  and of that one store, beside what is known of the others
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import active_sessions
import contended
import express_store
import http_seats
import install
import line
import msgspec
import overload
import redis_leases
import stores
import versus
import web_sessions
from places import machine
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--only",
        choices=[
            "http",
            "stores",
            "contended",
            "line",
            "sessions",
            "versus",
            "express",
            "people",
            "redis",
            "overload",
            "install",
            "imports",
        ],
    )
    parser.add_argument(
        "--store", choices=http_seats.STORES, help="of http, overload only this one"
    )
    given = parser.parse_args()
    console = Console()
    seconds, rounds = (1.0, 3) if given.quick else (3.0, 11)
    runs: dict[str, Any] = {
        "contended": lambda say: contended.measure(10_000 if given.quick else 100_000, say),
        "stores": lambda say: stores.measure(
            (100, 10_000 if given.quick else 100_000), seconds, say
        ),
        "http": lambda say: http_seats.measure(
            rounds, say, [given.store] if given.store else http_seats.STORES
        ),
        "line": lambda say: line.measure(
            100 if given.quick else 1_000, say, [given.store] if given.store else line.STORES
        ),
        "overload": lambda say: overload.measure(
            1 if given.quick else 5, say, [given.store] if given.store else overload.STORES
        ),
        "redis": lambda say: redis_leases.measure(50_000 if given.quick else 1_000_000, say),
        "people": lambda say: active_sessions.measure(10_000, 3 if given.quick else 30, say),
        "sessions": lambda say: web_sessions.measure(rounds, say),
        "versus": lambda say: versus.measure(2 * rounds, say),
        "express": lambda say: express_store.measure(4 * rounds, say),
        "install": install.sizes,
        "imports": lambda say: install.imports(rounds, say),
    }
    for name, run in runs.items():
        if given.only in (None, name):
            with console.status(name) as status:
                rows = run(lambda text, status=status: status.update(text))
            console.print(table(name, rows))
            if name == "stores":
                for store, ratio in stores.refusals(rows).items():
                    console.print(f"refusing one in the largest pool, {store}: {ratio:.2f} times")
            if not given.quick:
                save(name, rows, only=given.store)


def table(name: str, rows: list[Any]) -> Table:
    """Show rows as they are: a column per field, figures to the right."""
    shown = Table(title=name, title_justify="left")
    for field in rows[0].__struct_fields__:
        right = isinstance(getattr(rows[0], field), int | float)
        shown.add_column(field.replace("_", " "), justify="right" if right else "left")
    for row in rows:
        shown.add_row(*(figure(getattr(row, f)) for f in row.__struct_fields__))
    return shown


def figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def save(name: str, rows: list[Any], *, only: str | None) -> None:
    """Write what was measured; where only one store was, keep the rows of the others."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = msgspec.json.decode(path.read_bytes())["rows"] if only else []
    document = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "rows": [
            *(row for row in kept if row["store"] != only),
            *(msgspec.to_builtins(row) for row in rows),
        ],
    }
    text = msgspec.json.format(msgspec.json.encode(document), indent=2)
    path.write_bytes(text + b"\n")


if __name__ == "__main__":
    main()
