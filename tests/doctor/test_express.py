"""Faults of connect-pg-simple's table, each made for real: found, mended, and nobody signed out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from msgspec import Struct
from tests.adapters.express.pg import SET, express_set, rows

from sojourn.adapters.express import install, open_examiner, open_express
from sojourn.doctor.doctor import Doctor
from sojourn.finding import Verdict
from sojourn.session import Check, Session
from sojourn.stores.open import repair_lock

PEOPLE = 30
TABLE = """
CREATE TABLE "session" ("sid" varchar NOT NULL COLLATE "default", "sess" json NOT NULL,
    "expire" timestamp(6) NOT NULL);
ALTER TABLE "session" ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid");
CREATE INDEX "IDX_session_expire" ON "session" ("expire");
"""
AGAIN = 'ALTER TABLE "session" ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid")'
SERIAL_KEY = (
    'ALTER TABLE "session" DROP CONSTRAINT "session_pkey"',
    'ALTER TABLE "session" ADD COLUMN "id" serial',
    'ALTER TABLE "session" ADD CONSTRAINT "session_pkey" PRIMARY KEY ("id")',
)
DOUBLES = (
    "INSERT INTO \"session\" (sid, sess, expire) SELECT sid, sess, expire - interval '1 minute'"
    " FROM \"session\" WHERE sid IN ('sid 1', 'sid 2')"
)

OLD = (
    "INSERT INTO \"session\" SELECT 'old ' || n, '{\"cookie\":{}}', now() - interval '3 days'"
    " FROM generate_series(1, 700) AS n"
)


class Fault(Struct, frozen=True):
    name: str
    check: str
    plant: tuple[str, ...]
    mended: bool = True
    verdict: Verdict = Verdict.FAILURE
    cure: tuple[str, ...] = ()
    lost: frozenset[str] = frozenset()  # sids that nobody could have read
    named: str = ""


FAULTS = (
    Fault(
        "the primary key dropped",
        "schema.express-key",
        ('ALTER TABLE "session" DROP CONSTRAINT "session_pkey"',),
        named="no primary key",
    ),
    Fault(
        "multiple primary keys",
        "schema.express-key",
        (*SERIAL_KEY, DOUBLES),
        named="multiple primary keys",
        cure=('ALTER TABLE "session" DROP COLUMN "id"',),
    ),
    Fault(
        "doubles",
        "schema.express-key",
        ('ALTER TABLE "session" DROP CONSTRAINT "session_pkey"', DOUBLES),
        named="2 are double",
    ),
    Fault(
        "a sid too short for sids",
        "schema.express-columns",
        ('ALTER TABLE "session" ALTER COLUMN sid TYPE varchar(20)',),
    ),
    Fault(
        "a column that must be filled",
        "schema.express-columns",
        (
            'ALTER TABLE "session" ADD COLUMN owner integer NOT NULL DEFAULT 0',
            'ALTER TABLE "session" ALTER COLUMN owner DROP DEFAULT',
        ),
        cure=('ALTER TABLE "session" DROP COLUMN owner',),
    ),
    Fault(
        "a column renamed",
        "schema.express-columns",
        ('ALTER TABLE "session" RENAME COLUMN expire TO expires',),
        mended=False,
        cure=('ALTER TABLE "session" RENAME COLUMN expires TO expire',),
        named="expire is missing",
    ),
    Fault(
        "no index",
        "schema.express-index",
        ('DROP INDEX "IDX_session_expire"',),
        verdict=Verdict.WARNING,
    ),
    Fault(
        "no cookie",
        "schema.express-rows",
        (
            "UPDATE \"session\" SET sess = (sess::jsonb - 'cookie')::json WHERE sid IN ('sid 3', 'sid 4')",
        ),
        named="2 of",
    ),
    Fault(
        "unreadable",
        "schema.express-rows",
        ("UPDATE \"session\" SET sess = '[]' WHERE sid = 'spare'",),
        lost=frozenset({"spare"}),
        named="cannot be read",
    ),
    Fault(
        "not pruned",
        "schema.express-prune",
        (OLD,),
        verdict=Verdict.WARNING,
        named="700 rows",
    ),
    Fault(
        "in another schema",
        "schema.express",
        ("CREATE SCHEMA app", 'ALTER TABLE "session" SET SCHEMA app'),
        mended=False,
        cure=('ALTER TABLE app."session" SET SCHEMA public', "DROP SCHEMA app"),
        named="schema app",
    ),
    Fault(
        "another time zone",
        "store.express-zone",
        ("UPDATE \"session\" SET expire = expire - interval '5 hours 30 minutes'",),
        mended=False,
        cure=("UPDATE \"session\" SET expire = expire + interval '5 hours 30 minutes'",),
        named="-5.5 h",
    ),
)


class Ward:
    def __init__(self, url: str) -> None:
        self.url = url
        examiner = open_examiner(f"express+{url}", place="the ward")
        assert examiner is not None
        self.doctor = Doctor([examiner], lambda: repair_lock(url))
        self.database = psycopg.connect(url, autocommit=True)

    def people(self) -> None:
        end = self.database.execute(
            "SELECT extract(epoch FROM now() + interval '12 hours')"
        ).fetchone()
        assert end is not None
        at = float(end[0]) // 1
        iso = rows(self.database, "SELECT to_char(to_timestamp(%s) AT TIME ZONE 'UTC',"
                   " 'YYYY-MM-DD\"T\"HH24:MI:SS.000\"Z\"')", at)[0][0]  # fmt: skip
        cookie = {"originalMaxAge": 43_200_000, "expires": iso, "httpOnly": True, "path": "/"}
        for n in range(PEOPLE):
            sess = {"cookie": cookie, "passport": {"user": f"{n}"}, "cart": [n]}
            express_set(self.database, f"sid {n}", sess, at)
        express_set(self.database, "spare", {"cookie": cookie}, at)

    def wrong(self) -> dict[str, Any]:
        return {x.check.id: x.finding for x in self.doctor.examine() if x.finding.verdict.rank}

    def execute(self, *statements: str) -> None:
        for each in statements:
            self.database.execute(each.encode())

    def signed_in(self) -> dict[str, Any]:
        """What Express would load, by sid."""
        sql = 'SELECT sid, sess::text FROM "session" WHERE expire >= now()'
        found = {row[0]: json.loads(row[1]) for row in rows(self.database, sql)}
        assert all(isinstance(each.get("cookie"), dict) for each in found.values())
        return {
            sid: {k: v for k, v in sess.items() if k != "cookie"} for sid, sess in found.items()
        }


@pytest.fixture
def ward(postgres_url: str) -> Iterator[Ward]:
    ward = Ward(postgres_url)
    with closing(ward.database), closing(ward.doctor):
        yield ward


def test_faults(ward: Ward) -> None:
    """One after the other in one database: found, mended, and the same people are signed in."""
    ward.execute(TABLE)
    ward.people()
    assert ward.wrong() == {}
    before = ward.signed_in()
    for fault in FAULTS:
        ward.execute(*fault.plant)
        found = ward.wrong()
        assert set(found) == {fault.check}, (fault.name, found)
        assert found[fault.check].verdict is fault.verdict, fault.name
        assert fault.named in str(found[fault.check]), (fault.name, found)
        if fault.mended:
            (seen,) = [x for x in ward.doctor.examine() if x.check.id == fault.check]
            assert seen.steps, fault.name
            assert set(ward.wrong()) == {fault.check}, "a plan changes nothing"
            assert list(ward.doctor.repair([fault.check])), fault.name
        else:
            assert list(ward.doctor.repair()) == []
            ward.execute(*fault.cure)
        assert ward.wrong() == {}, fault.name
        assert list(ward.doctor.repair()) == [], "a second run changes nothing"
        if fault.mended:
            ward.execute(*fault.cure)
        assert ward.signed_in() == {k: v for k, v in before.items() if k not in fault.lost}, (
            fault.name
        )
        express_set(ward.database, "sid 5", {"cookie": {}, **before["sid 5"]}, 4_000_000_000)
        if fault.lost:
            ward.people()
        ward.execute(
            "UPDATE \"session\" SET expire = now() + interval '12 hours' WHERE sid = 'sid 5'"
        )
    kept = rows(ward.database, "SELECT tablename FROM pg_tables WHERE tablename ~ '_aside_'")
    assert len(kept) == 3  # of two with doubles, and one row that was unreadable


def test_table_missing(ward: Ward) -> None:
    assert set(ward.wrong()) == {"schema.express"}
    assert [x.check.id for x in ward.doctor.repair()] == ["schema.express"]
    assert ward.wrong() == {}
    ward.people()
    assert len(ward.signed_in()) == PEOPLE + 1


def test_multiple_primary_keys(ward: Ward) -> None:
    """The mission's story beside Express: the table script is run again and again, until it says
    `multiple primary keys` and nobody can sign in. The same people are signed in afterwards, in Express
    and here."""
    ward.execute(TABLE)
    install(f"express+{ward.url}")
    ward.people()
    before = ward.signed_in()
    ward.execute(*SERIAL_KEY, DOUBLES)
    with pytest.raises(psycopg.errors.InvalidTableDefinition, match="multiple primary keys"):
        ward.execute(AGAIN)
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        express_set(ward.database, "sid 1", {"cookie": {}}, 4_000_000_000)

    found = ward.wrong()
    assert set(found) == {"schema.express-key"}
    assert "multiple primary keys" in found["schema.express-key"].evidence[0]
    done = [x.step for x in ward.doctor.repair()]
    assert done[0].rows == PEOPLE + 3
    assert ward.wrong() == {}
    assert ward.signed_in() == before
    text = json.dumps({"cookie": {"originalMaxAge": None}, **before["sid 1"]})
    ward.database.execute(SET, (text, 4_000_000_000, "sid 1", text, 4_000_000_000))
    with closing(open_express(f"express+{ward.url}")) as sessions:
        known = sessions.check([Check(f"sid {n}", touch=False) for n in range(PEOPLE)])
    assert [x.user_id if isinstance(x, Session) else x for x in known] == [
        str(n) for n in range(PEOPLE)
    ]


def test_what_is_installed_beside_is_not_whole(ward: Ward) -> None:
    install(f"express+{ward.url}")
    ward.people()
    assert ward.wrong() == {}
    ward.execute('DROP TRIGGER "sojourn_gone" ON "session"')
    found = ward.wrong()
    assert set(found) == {"schema.express-installed"}
    assert "sojourn_gone" in found["schema.express-installed"].evidence[0]
    install(f"express+{ward.url}")
    assert ward.wrong() == {}


def test_what_is_installed_beside_is_from_an_older_version(ward: Ward) -> None:
    """Told by the column that is missing, and mended; nobody is signed out."""
    install(f"express+{ward.url}")
    ward.people()
    ward.execute("ALTER TABLE session_sojourn DROP COLUMN last_device")
    found = ward.wrong()
    assert set(found) == {"schema.express-installed"}
    assert "last_device" in found["schema.express-installed"].evidence[0]
    assert list(ward.doctor.repair())
    assert ward.wrong() == {}
    open_express(f"express+{ward.url}").close()
