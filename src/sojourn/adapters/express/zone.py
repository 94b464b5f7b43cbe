"""Do Express and we mean the same instant by `expire`, which is without a time zone?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sojourn.adapters.express import payload
from sojourn.adapters.express.schema import Names
from sojourn.errors import SettingsError
from sojourn.stores.sql.database import Database

SAMPLE = 50
QUARTER_HOUR = 900  # s; every time zone is off by a multiple of it
SHIFTED_MIN = 3

NEWEST = """
SELECT e.sess::text, extract(epoch FROM e.expire::timestamptz)::float8, s.zone,
    s.zone IS NULL OR now() AT TIME ZONE s.zone = localtimestamp, current_setting('TimeZone')
FROM {express} AS e LEFT JOIN {side} AS s ON s.sid = e.sid AND s.id = {id_of_sid}
ORDER BY e.expire DESC LIMIT :limit
"""

ZONE_HINT = (
    "connect-pg-simple keeps ends of sessions in the time zone of Express's connections. Give both "
    "the same: ALTER ROLE … SET timezone, or add ?options=-c%20TimeZone%3DZONE to our URL; and unset "
    "PGTZ, which only we would obey."
)


def require_zone(db: Database, names: Names) -> None:
    """See that Express and we mean the same instant by `expire`.

    Raises SettingsError. Rows that Express has written since the installation say in which zone;
    older ones are compared with the end in their cookie, which says it in UTC.
    """
    rows = db.read(lambda tx: tx.rows(names.fill(NEWEST), {"limit": SAMPLE}))
    other = next((row[2] for row in rows if not row[3]), None)
    if other is not None:
        raise _zone_error(f"Express writes {other}, and we would read {rows[0][4]}.")
    if any(row[2] is not None for row in rows):
        return
    shift = shift_of([(row[0], row[1]) for row in rows])
    if shift:
        raise _zone_error(f"The ends of its sessions are {shift / 3600:+g} h off.")


def _zone_error(message: str) -> SettingsError:
    return SettingsError(
        f"Express and we would not mean the same time by an end of a session. {message}",
        code="express_time_zone",
        hint=ZONE_HINT,
    )


def shift_of(rows: Sequence[tuple[str, float]]) -> int:
    """Return by how many seconds ends are off; 0 if that cannot be said.

    A touch moves `expire` and leaves `cookie.expires`, so that a later `expire` alone proves little:
    several rows must agree, and none be right. An earlier one has no other cause.
    """
    shifts: Counter[int] = Counter()
    for text, expire in rows:
        said = _cookie_end(text)
        if said is None:
            continue
        off = expire - said
        nearest = round(off / QUARTER_HOUR) * QUARTER_HOUR
        if -1 <= off - nearest <= 2:
            shifts[nearest] += 1
    if not shifts or 0 in shifts:
        return 0
    shift, count = shifts.most_common(1)[0]
    likely = shift < 0 or (count >= SHIFTED_MIN and 2 * count > len(rows))
    return shift if likely else 0


def _cookie_end(text: str) -> float | None:
    cookie = (payload.read(text) or {}).get("cookie")
    value = None if cookie is None else payload.value_of(cookie)
    expires = value.get("expires") if isinstance(value, dict) else None
    try:
        return datetime.fromisoformat(expires).timestamp() if isinstance(expires, str) else None
    except ValueError:
        return None
