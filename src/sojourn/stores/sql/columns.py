"""The types of columns, once for all databases, and where the tables are gathered: see `schema`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, LargeBinary, MetaData, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

MYSQL_FAMILY = ("mysql", "mariadb")


class Key(TypeDecorator[str]):
    """Text that compares byte by byte, on every database."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        length = self.length
        if dialect.name in MYSQL_FAMILY:
            return dialect.type_descriptor(
                mysql.VARCHAR(length, charset="utf8mb4", collation=byte_collation(dialect))
            )
        if dialect.name == "postgresql":
            return dialect.type_descriptor(String(length, collation="C"))
        return dialect.type_descriptor(String(length))


def byte_collation(dialect: Dialect) -> str:
    """Name the collation in which trailing spaces count too; MariaDB and MySQL call it differently."""
    return "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"


INSTANT = BigInteger()
JSON = Text().with_variant(mysql.LONGTEXT(), *MYSQL_FAMILY)
DIGEST = LargeBinary().with_variant(mysql.BINARY(16), *MYSQL_FAMILY)
HASH = LargeBinary().with_variant(mysql.BINARY(32), *MYSQL_FAMILY)
IN_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_row_format": "DYNAMIC",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_row_format": "DYNAMIC",
}

metadata = MetaData()
