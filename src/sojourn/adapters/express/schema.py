"""What Sojourn adds beside connect-pg-simple's table: one table, three triggers, and their functions.

The table has a row per session: what Express has no place for, and, once the session has ended, its
tombstone. Express's own table keeps its columns. The triggers see what unmodified Express writes:

    before insert, update of expire    nothing comes back after its end; no end is put off for ever
    after insert, update of sess       who is signed in; a session that came back in a race is removed
    after delete                       a sign-out in Express is a tombstone too; pruned rows leave none

They take no locks besides those of the rows they write, always Express's row first and ours after it,
so that they cannot deadlock with Express. They run with the rights of whoever installed them, since
Express's role has none on our table, and they never fail a statement of Express's.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

from sojourn.adapters.express.options import Options
from sojourn.adapters.express.payload import public_id, read, user_of
from sojourn.errors import Conflict, SojournError, StoreBroken
from sojourn.stores.sql.database import Database, Tx

VERSION = 1
BACKFILL = 1_000  # rows per transaction
LOCK = 0x534F4A4F45585052  # "SOJOEXPR"
RACED = ("42P07", "42P16", "42710", "23505")
"""What somebody gets who makes what somebody else has just made: Express does so with
createTableIfMissing, and takes no lock."""

EXPRESS_TABLE = """
CREATE TABLE {express} (
  "sid" varchar NOT NULL COLLATE "default",
  "sess" json NOT NULL,
  "expire" timestamp(6) NOT NULL
)
WITH (OIDS=FALSE);
ALTER TABLE {express} ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid")
  NOT DEFERRABLE INITIALLY IMMEDIATE;
CREATE INDEX "IDX_session_expire" ON {express} ("expire");
"""
"""connect-pg-simple's table.sql, the names of its constraint and index included."""

SIDE_TABLE = """
CREATE TABLE IF NOT EXISTS {side} (
  id text COLLATE "C" PRIMARY KEY,
  sid text,
  user_ref text COLLATE "C",
  created_at bigint,
  authenticated_at bigint,
  expires_at bigint,
  level smallint NOT NULL DEFAULT 1,
  device text,
  impersonator text,
  zone text,
  ended_at bigint,
  ended_by text,
  end_reason text,
  successor text COLLATE "C",
  grace_until bigint,
  label text,
  label_user text COLLATE "C",
  last_device text
);
CREATE INDEX IF NOT EXISTS {user_index} ON {side} (user_ref) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS {ended_index} ON {side} (ended_at) WHERE ended_at IS NOT NULL;
"""
"""`label_user`: who gave the device its name. It is no other user's, to whom Express may give the session."""
LATER = {
    "label": "text",
    "label_user": 'text COLLATE "C"',
    "last_device": "text",
}
"""Columns that the first version of the table did not have."""

ID = """'exp_' || rtrim(translate(encode(substring(sha256(convert_to({sid}, 'UTF8')) FROM 1 FOR 16),
    'base64'), '+/', '-_'), '=')"""
CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

FUNCTIONS = """
CREATE OR REPLACE FUNCTION {guard}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sojourn$
DECLARE ended bigint; cap bigint;
BEGIN
  SELECT ended_at, expires_at INTO ended, cap FROM {side} WHERE id = {new_id};
  IF TG_OP = 'INSERT' AND ended IS NOT NULL THEN
    RETURN NULL;
  END IF;
  IF cap IS NOT NULL AND NEW.expire > to_timestamp(ceil(cap / 1000.0)) THEN
    NEW.expire := to_timestamp(ceil(cap / 1000.0));
  END IF;
  RETURN NEW;
EXCEPTION WHEN undefined_table OR undefined_column THEN
  RETURN NEW;
END $sojourn$;

CREATE OR REPLACE FUNCTION {note}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sojourn$
DECLARE who text; ended bigint; was text; this text := {new_id};
BEGIN
  BEGIN
    who := NEW.sess #>> {user_path};
    IF NOT (json_typeof(NEW.sess::json #> {user_path}) = 'string'
        OR json_typeof(NEW.sess::json #> {user_path}) = 'number' AND who ~ '^-?[0-9]+$')
        OR who = '' OR length(who) > 512 THEN
      who := NULL;
    END IF;
  EXCEPTION WHEN OTHERS THEN  -- json takes the character U+0000, and nothing can read it
    who := NULL;
  END;
  SELECT ended_at, user_ref INTO ended, was FROM {side} WHERE id = this;
  IF NOT FOUND THEN
    INSERT INTO {side} (id, sid, user_ref, created_at, authenticated_at, zone)
    VALUES (this, NEW.sid, who, {clock}, {clock}, current_setting('TimeZone'))
    ON CONFLICT (id) DO NOTHING;
    SELECT ended_at INTO ended FROM {side} WHERE id = this;
  ELSIF ended IS NULL AND was IS DISTINCT FROM who THEN
    UPDATE {side} SET user_ref = who, authenticated_at = {clock}, level = 1, impersonator = NULL
    WHERE id = this AND ended_at IS NULL;
  END IF;
  IF ended IS NOT NULL THEN  -- it waited for the very transaction that ended the session
    DELETE FROM {express} WHERE sid = NEW.sid;
  END IF;
  RETURN NULL;
EXCEPTION WHEN undefined_table OR undefined_column THEN
  RETURN NULL;
END $sojourn$;

CREATE OR REPLACE FUNCTION {gone}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sojourn$
DECLARE this text := {old_id};
BEGIN
  IF OLD.expire < localtimestamp THEN
    DELETE FROM {side} WHERE id = this AND ended_at IS NULL;
  ELSE
    INSERT INTO {side} AS s (id, ended_at, end_reason) VALUES (this, {clock}, 'express')
    ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, end_reason = 'express', sid = NULL
    WHERE s.ended_at IS NULL;
  END IF;
  RETURN NULL;
EXCEPTION WHEN undefined_table OR undefined_column THEN
  RETURN NULL;
END $sojourn$;
"""

TRIGGERS = {
    "sojourn_guard": "BEFORE INSERT OR UPDATE OF expire ON {express} FOR EACH ROW EXECUTE FUNCTION"
    " {guard}()",
    "sojourn_note": "AFTER INSERT OR UPDATE OF sess ON {express} FOR EACH ROW EXECUTE FUNCTION"
    " {note}()",
    "sojourn_gone": "AFTER DELETE ON {express} FOR EACH ROW EXECUTE FUNCTION {gone}()",
}

SCHEMA_OF = """
SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(:name)
"""
COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute AS a
WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped
"""
KEYED = """
SELECT count(*) FROM pg_index AS i JOIN pg_attribute AS a
ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = to_regclass(:name) AND i.indisunique AND i.indnkeyatts = 1
AND i.indpred IS NULL AND a.attname = 'sid'
"""
MADE = """
SELECT obj_description(to_regclass(:side), 'pg_class'), array(SELECT tgname::text FROM pg_trigger
WHERE tgrelid = to_regclass(:express) AND tgenabled IN ('O', 'A') AND tgname LIKE 'sojourn!_%' ESCAPE '!')
"""
UNKNOWN = """
SELECT e.sid, e.sess::text FROM {express} AS e WHERE e.sid > :after ORDER BY e.sid LIMIT :limit
"""
ADOPT = """
INSERT INTO {side} (id, sid, user_ref) SELECT t.id, t.sid, t.who
FROM unnest(:ids::text[], :sids::text[], :users::text[]) AS t (id, sid, who)
JOIN {express} AS e ON e.sid = t.sid ON CONFLICT (id) DO NOTHING
"""
LACKING = """
SELECT array(SELECT c.name FROM unnest(:names::text[]) AS c (name) WHERE NOT EXISTS (
    SELECT FROM pg_attribute AS a WHERE a.attrelid = to_regclass(:side) AND a.attname = c.name
    AND NOT a.attisdropped))
"""
FORGET_ORPHANS = """
DELETE FROM {side} WHERE id IN (SELECT s.id FROM {side} AS s WHERE s.ended_at IS NULL
AND NOT EXISTS (SELECT FROM {express} AS e WHERE e.sid = s.sid) LIMIT :limit)
"""
"""Left by TRUNCATE, which no row's trigger sees."""


class Names:
    """Quoted names in one schema."""

    def __init__(self, schema: str, table: str) -> None:
        def name(suffix: str) -> str:
            return f"{quoted(schema)}.{quoted(table + suffix)}"

        self.express = name("")
        self.side = name("_sojourn")
        self._all = {
            "express": self.express,
            "side": self.side,
            "guard": name("_sojourn_guard"),
            "note": name("_sojourn_note"),
            "gone": name("_sojourn_gone"),
            "user_index": quoted(table + "_sojourn_user"),
            "ended_index": quoted(table + "_sojourn_ended"),
            "clock": CLOCK,
            "new_id": ID.replace("{sid}", "NEW.sid"),
            "id_of_sid": ID.replace("{sid}", "e.sid"),
            "old_id": ID.replace("{sid}", "OLD.sid"),
        }

    def fill(self, template: str, **more: str) -> str:
        for name, value in (self._all | more).items():
            template = template.replace("{" + name + "}", value)
        return template


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for the body of a function, which takes no parameters."""
    return "'" + text.replace("'", "''") + "'"  # standard_conforming_strings is on


def comment(options: Options) -> str:
    return f"sojourn express {VERSION}, user at {'.'.join(options.user_path)}"


def find(db: Database, options: Options) -> Names | None:
    """Find Express's table, by the schema given or the search path; None if it is not there."""
    rows = db.read(lambda tx: tx.rows(SCHEMA_OF, {"name": _given(options)}))
    return Names(rows[0][0], options.table) if rows else None


def _given(options: Options) -> str:
    table = quoted(options.table)
    return table if options.schema is None else f"{quoted(options.schema)}.{table}"


def require(db: Database, options: Options) -> Names:
    """Find everything in its place. Raises StoreBroken, saying what is not."""
    names = find(db, options)
    hint = f"Run `sojourn express install --table {options.table}` with the same URL."
    if names is None:
        raise StoreBroken(f"There is no table {_given(options)} in this database.", hint=hint)
    params = {"side": names.side, "express": names.express}
    said, triggers = db.read(lambda tx: tx.rows(MADE, params))[0]
    if said is None or set(triggers) != set(TRIGGERS):
        raise StoreBroken(f"Sojourn is not installed beside {names.express}.", hint=hint)
    if said != comment(options):
        raise StoreBroken(
            f"What is installed beside {names.express} says {said!r}, not {comment(options)!r}.",
            hint=hint,
        )
    if db.read(lambda tx: lacking(tx, names)):
        raise StoreBroken(
            f"What is installed beside {names.express} is from an older version.", hint=hint
        )
    return names


def lacking(tx: Tx, names: Names) -> list[str]:
    """Return which of our columns an older version did not make."""
    return list(tx.rows(LACKING, {"side": names.side, "names": list(LATER)})[0][0])


def install(db: Database, options: Options) -> Names:
    """Make what is missing, Express's own table included. Safe to repeat, and to run twice at once."""
    names = find(db, options) or make_express_table(db, options)
    _refuse_odd(db, names)
    db.transaction(lambda tx: _make_ours(tx, names, options))
    after: str | None = ""
    while after is not None:
        after = db.transaction(lambda tx, last=after: _backfill(tx, names, options, last))  # type: ignore[misc]  # mypy does not infer defaults
    while db.write(lambda tx: tx.do(names.fill(FORGET_ORPHANS), {"limit": BACKFILL})) == BACKFILL:
        pass
    return names


def make_express_table(db: Database, options: Options) -> Names:
    def work(tx: Tx) -> None:
        tx.rows("SELECT 1 FROM pg_advisory_xact_lock(:key)", {"key": LOCK})
        if not tx.rows(SCHEMA_OF, {"name": _given(options)}):
            _ddl(tx, EXPRESS_TABLE.replace("{express}", _given(options)))

    try:
        db.transaction(work)
    except (StoreBroken, Conflict) as error:
        if _sqlstate(error) not in RACED:
            raise
    names = find(db, options)
    if names is None:
        raise StoreBroken(
            f"The table {_given(options)} cannot be made: its key or its index has a name that another"
            " table of this schema has taken.",
            hint="connect-pg-simple's table.sql names them session_pkey and IDX_session_expire: rename "
            "them there, make this table by hand, then run this again.",
        )
    return names


def _sqlstate(error: SojournError) -> str | None:
    cause = error.__cause__
    return getattr(cause.orig, "sqlstate", None) if isinstance(cause, DBAPIError) else None


def _refuse_odd(db: Database, names: Names) -> None:
    params = {"name": names.express}
    types = {row[0]: row[1] for row in db.read(lambda tx: tx.rows(COLUMNS, params))}
    if not {"sid", "sess", "expire"} <= set(types) or types["sess"] not in ("json", "jsonb"):
        raise StoreBroken(
            f"{names.express} is not connect-pg-simple's: it has {', '.join(sorted(types))}.",
            hint="It needs the columns sid, sess (json) and expire.",
        )
    if not db.read(lambda tx: tx.rows(KEYED, params))[0][0]:
        raise StoreBroken(
            f"{names.express} has no primary key, so Express cannot save sessions either.",
            hint=f"Run: ALTER TABLE {names.express} ADD PRIMARY KEY (sid)",
        )


def _make_ours(tx: Tx, names: Names, options: Options) -> None:
    tx.rows("SELECT 1 FROM pg_advisory_xact_lock(:key)", {"key": LOCK})
    path = f"ARRAY[{', '.join(literal(step) for step in options.user_path)}]::text[]"
    _ddl(tx, names.fill(SIDE_TABLE))
    for column in lacking(tx, names):
        _ddl(tx, names.fill(f"ALTER TABLE {{side}} ADD COLUMN {column} {LATER[column]}"))
    _ddl(tx, names.fill(FUNCTIONS, user_path=path))
    params = {"side": names.side, "express": names.express}
    there = set(tx.rows(MADE, params)[0][1])
    for trigger, text in TRIGGERS.items():
        if trigger not in there:
            _ddl(tx, names.fill(f"DROP TRIGGER IF EXISTS {trigger} ON {{express}}"))
            _ddl(tx, names.fill(f"CREATE TRIGGER {trigger} {text}"))
    _ddl(tx, names.fill(f"COMMENT ON TABLE {{side}} IS {literal(comment(options))}"))


def _backfill(tx: Tx, names: Names, options: Options, after: str) -> str | None:
    """Note some of the sessions that were there before the triggers; return the last one's sid."""
    rows = tx.rows(names.fill(UNKNOWN), {"after": after, "limit": BACKFILL})
    if not rows:
        return None
    adopt(tx, names, options, {row[0]: row[1] for row in rows})
    return str(rows[-1][0])


def adopt(tx: Tx, names: Names, options: Options, texts: Mapping[str, str]) -> None:
    """Note sessions that no trigger has seen, given as sid and JSON. What has ended meanwhile is not."""
    users = [user_of(read(text) or {}, options.user_path) for text in texts.values()]
    tx.do(
        names.fill(ADOPT),
        {"ids": [public_id(sid) for sid in texts], "sids": list(texts), "users": users},
    )


def _ddl(tx: Tx, text: str) -> None:
    tx.connection.exec_driver_sql(text)
