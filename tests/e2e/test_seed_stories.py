"""What somebody does in a bad hour, with nothing but the commands that are printed to them."""

from __future__ import annotations

import contextlib
import json
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from tests.doctor.test_express import SERIAL_KEY, TABLE
from tests.e2e.cli_harness import make_license, run, run_json, serving
from tests.e2e.old_tables import executing

from sojourn.adapters.express import install
from sojourn.lease import LeaseFilter
from sojourn.stores.open import open_store
from sojourn.stores.sql import schema
from sojourn.testing.redis_server import redis_server

SECRET = {"SOJOURN_SECRET": "a-secret-for-the-seed-stories-0123456789"}


def printed(text: str, *, starts: str) -> list[str]:
    """Return the arguments of the first command of ours that stands on a line of its own."""
    lines = (line.strip() for line in text.splitlines())
    line = next(line for line in lines if line.startswith(starts))
    return shlex.split(line)[1:]


def test_the_table_of_sessions_is_missing(tmp_path: Path) -> None:
    """Doctor says that nobody can sign in, prints a command, and that command is all it takes."""
    with serving(tmp_path):
        pass
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = str(tmp_path / "sojourn-data")
    with closing(sqlite3.connect(f"{data}/sojourn.db")) as database:
        database.execute(f"DROP TABLE {schema.sessions.name}")
    said = run(elsewhere, "doctor", "--data", data, code=8).stdout
    assert f"The table {schema.sessions.name} is missing." in said
    assert "Nobody can sign in" in said
    command = printed(said, starts="sojourn migrate")
    run(elsewhere, *command)
    assert run_json(elsewhere, "doctor", "--data", data)["worst"] == "ok"


def test_multiple_primary_keys_and_a_table_that_was_dropped(
    postgres_url: str, tmp_path: Path
) -> None:
    """Express's troubleshooting drops the table, and table.sql fails when it is run again: the printed
    command mends either, with what Sojourn had installed beside it."""
    store = f"sqlite:///{tmp_path}/sojourn.db"
    run(tmp_path, "migrate", "--store", store)
    look = ("doctor", "--store", store, "--express", f"express+{postgres_url}", "--area", "schema")
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(TABLE)
        install(postgres_url)
        for fault in (
            ";".join(SERIAL_KEY),
            'DROP TABLE "session" CASCADE',
        ):
            db.execute(fault)
            said = run(tmp_path, *look, code=8, env=SECRET).stdout
            command = printed(said, starts="sojourn doctor --fix")
            assert run(tmp_path, *command, "--yes", env=SECRET).code in (0, 7)
            report = run_json(tmp_path, *look, env=SECRET)
            assert report["worst"] == "ok", report
            installed = next(x for x in report["checks"] if x["id"] == "schema.express-installed")
            assert installed["verdict"] == "ok"
            with contextlib.suppress(psycopg.errors.UndefinedColumn):
                db.execute('ALTER TABLE "session" DROP COLUMN "id"')


def test_ghosts_of_the_old_backend(mariadb_url: str, tmp_path: Path) -> None:
    """Its table and its Redis hold rows of nobody: they are told with figures, and the living keep their
    seats."""
    with serving(tmp_path):
        make_license(tmp_path, "editor=5")
    now = datetime.now(UTC).replace(tzinfo=None)
    beat = (now - timedelta(seconds=3)).isoformat(" ", "seconds")
    old = (now - timedelta(days=3)).isoformat(" ", "seconds")
    with executing(mariadb_url) as execute:
        execute(
            "CREATE TABLE user_sessions (id INT PRIMARY KEY, user_id VARCHAR(64), session_token"
            " VARCHAR(255), feature VARCHAR(64), license_cache_id INT, status VARCHAR(16),"
            " last_heartbeat DATETIME, ended_at DATETIME)"
        )
        execute(
            "INSERT INTO user_sessions VALUES (:id, :user, :token, 'editor', 1, 'active', :beat, NULL)",
            [
                {
                    "id": n,
                    "user": f"u{n}",
                    "token": f"an-old-token-{n:06}",
                    "beat": beat if n < 2 else old,
                }
                for n in range(12)
            ],
        )
    said = run(tmp_path, "adopt", "--from", mariadb_url).stdout
    assert "dead, left behind" in said
    assert "silent" in said
    run(tmp_path, "adopt", "--from", mariadb_url, "--apply")
    with closing(open_store(f"sqlite:///{tmp_path}/sojourn-data/sojourn.db")) as store:
        leases, _ = store.leases(LeaseFilter(), limit=100)
    assert sorted(lease.user_id for lease in leases) == ["u0", "u1"]
    with redis_server() as server:
        import redis  # noqa: PLC0415  # of this story alone

        client = redis.Redis.from_url(server.url)
        ann = {"user_id": "ann", "feature": "editor", "status": "active", "last_heartbeat": beat}
        client.set("session:a-token-of-ann-1", json.dumps(ann))
        client.sadd("user_sessions:ann", "a-token-of-ann-1", "a-token-that-is-gone")
        client.set("feature:editor:count", 50)
        ledger = f"sqlite:///{tmp_path}/ledger.db"
        run(tmp_path, "migrate", "--store", ledger)
        look = ("doctor", "--store", server.url, "--ledger", ledger, "--area", "store")
        said = run(tmp_path, *look, code=7, env=SECRET).stdout
        assert "feature:editor:count says 50; of editor, so many sessions are there: 1." in said
        command = printed(said, starts="sojourn doctor --fix")
        run(tmp_path, *command, "--yes", code=7, env=SECRET)
        assert client.smembers("user_sessions:ann") == {b"a-token-of-ann-1"}
