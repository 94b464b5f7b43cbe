"""Structs that several threads may decode at once.

msgspec reads a Struct's annotations when it first decodes one, and runs Python code for that. Two threads
that come to it together end the process (a segmentation fault in msgspec 0.19 to 0.22). So the
annotations of each Struct that threads decode or convert are read when its module is imported.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def prepared(kind: type[T]) -> type[T]:
    """Decorate a Struct whose annotations name nothing that is defined further down."""
    msgspec.json.Decoder(kind)
    return kind
