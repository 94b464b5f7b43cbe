"""What `pip install sojourn` leaves to extras, and what to run where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from sojourn.errors import SettingsError


def installation(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'sojourn[{extra}]'"


def need(module: str, extra: str, what: str) -> None:
    """Raise SettingsError if `module`, which `what` stands on, is not installed."""
    if find_spec(module) is None:
        raise SettingsError(
            f"{what} needs the package {module}, which is not installed.",
            hint=f"Run: {installation(extra)}",
        )
