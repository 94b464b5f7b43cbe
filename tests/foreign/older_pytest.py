"""A pytest plugin of the campaign: what Flask's suite wants of an older pytest."""

import _pytest.monkeypatch
from _pytest.compat import NOTSET

_pytest.monkeypatch.notset = NOTSET  # type: ignore[attr-defined]  # its name was that
