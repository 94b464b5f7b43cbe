"""Parquet files are, byte by byte, what another implementation of the format has read."""

from __future__ import annotations

import struct
from base64 import b64decode
from datetime import UTC, datetime

import pytest

from sojourn.analytics import parquet as module
from sojourn.analytics.parquet import Cells, Kind, parquet

TABLE = (
    *(Cells("at", Kind.INSTANT), Cells("name", Kind.TEXT)),
    *(Cells("peak", Kind.WHOLE), Cells("mean", Kind.FIGURE)),
)
ROWS = [
    ("2026-12-01T00:00:00.123Z", "Müller & Söhne", -5, 1.5),
    ("2026-12-01T01:00:00Z", "", 2**40, 2),
    (None, None, None, None),
    ("2026-12-01T02:00:00Z", "😀", 0, 0.0),
]
READ = b64decode(
    "UEFSMRUAFUQVRCwVCBUAFQYVBgAABgAAAAQBAgACAXuw5i6iAQAAgJ4dL6IBAAAAjVQvogEAABUAFVQVVCwVCBUAFQYV"
    "BgAABgAAAAQBAgACARAAAABNw7xsbGVyICYgU8O2aG5lAAAAAAQAAADwn5iAFQAVRBVELBUIFQAVBhUGAAAGAAAABAEC"
    "AAIB+/////////8AAAAAAAEAAAAAAAAAAAAAFQAVRBVELBUIFQAVBhUGAAAGAAAABAECAAIBAAAAAAAA+D8AAAAAAAAA"
    "QAAAAAAAAAAAFQIZXEgGc2NoZW1hFQgAFQQlAhgCYXQlEkyMERwcAAAAAAAVDCUCGARuYW1lJQBMHAAAABUEJQIYBHBl"
    "YWsAFQolAhgEbWVhbgAWCBkcGUwmCBwVBBklAAYZGAJhdBUAFggWZhZmJggAACZuHBUMGSUABhkYBG5hbWUVABYIFnYW"
    "diZuAAAm5AEcFQQZJQAGGRgEcGVhaxUAFggWZhZmJuQBAAAmygIcFQoZJQAGGRgEbWVhbhUAFggWZhZmJsoCAAAWqAMW"
    "CAAoB3Nvam91cm4A0gAAAFBBUjE="
)
"""Read by pyarrow 25 as ROWS: timestamp[ms, tz=UTC], string, int64, double, each with one null."""


def test_what_pyarrow_has_read() -> None:
    assert parquet(TABLE, ROWS) == READ


def test_many_rows_are_one_after_the_other() -> None:
    """A long column's values follow its levels, of which runs of cells with and without a value are made."""
    cells = [None if number % 200 == 7 else number for number in range(5_000)]
    made = parquet((Cells("n", Kind.WHOLE),), [(cell,) for cell in cells])
    there = [cell for cell in cells if cell is not None]
    assert struct.pack(f"<{len(there)}q", *there) in made
    assert made[:4] == made[-4:] == b"PAR1"
    (size,) = struct.unpack("<I", made[-8:-4])
    assert made[-8 - size :][:2] == b"\x15\x02"  # the footer begins with the version


def test_an_instant_is_in_milliseconds_utc() -> None:
    made = parquet((Cells("at", Kind.INSTANT),), [("2026-12-01T02:00:00+02:00",)])
    at = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1_000
    assert struct.pack("<q", at) in made


def test_more_rows_than_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_MAX", 1)
    with pytest.raises(ValueError, match="at most 1 rows"):
        parquet(TABLE, ROWS)
