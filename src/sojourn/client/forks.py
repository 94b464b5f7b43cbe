"""What begins anew in a forked process: threads do not come along, and locks that they held stay locked."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Has locks, threads or connections of its own."""

    def forked(self) -> None:
        """Begin anew, in the child. Takes no lock that there was before."""
        ...


_all: weakref.WeakSet[Forkable] = weakref.WeakSet()


def renew_after_fork(each: Forkable) -> None:
    """Have `forked` called in each child, for as long as the object lives."""
    _all.add(each)


def _forked() -> None:
    for each in list(_all):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
