"""A server may fork after its application was used: connections and locks stay with the parent."""

from __future__ import annotations

import os

import pytest

from sojourn.adapters.desk import Desk, LazyDesk, open_desk


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_opens_a_desk_of_its_own() -> None:
    opened: list[Desk] = []

    def make() -> Desk:
        opened.append(open_desk("memory:", secret="c0ffee4b1e9d73a25f8c6b0917ad42e3"))
        return opened[-1]

    lazy = LazyDesk(make)
    mine = lazy.get()
    with lazy._lock:  # as a thread of the parent may, in that very moment
        pid = os.fork()
        if pid == 0:
            os._exit(0 if lazy.opened is None and lazy.get() is not mine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert lazy.opened is mine
    assert opened == [mine]
    lazy.close()
