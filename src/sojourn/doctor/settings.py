"""Can the settings be used? What keeps a server from starting is a finding here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sojourn.errors import SettingsError
from sojourn.finding import Area, Check, Finding, Fix, failure, ok

WHERE = ("store", "ledger", "data")
"""Without these it is not known where the store is."""
FILE = ""
"""The settings file as a whole: nor then, unless somebody else says it."""


class SettingsExaminer:
    """Tells of faults that reading the settings has found; `blind`: they say no more where the store is."""

    def __init__(self, faults: Mapping[str, SettingsError], *, blind: bool) -> None:
        self._faults = faults
        self._blind = blind

    def checks(self) -> Sequence[Check]:
        return [
            Check(
                id="settings.valid",
                area=Area.SETTINGS,
                title="Can every setting be used?",
                looked_at="flags, environment and sojourn.toml",
                look=self._look,
            )
        ]

    def close(self) -> None:
        """Nothing was opened."""

    def _look(self) -> Finding:
        faults = list(self._faults.values())
        if not faults:
            return ok("Every setting can be used.")
        said = [f"{x.message} {x.hint}" if x.hint else x.message for x in faults]
        if self._blind:
            said.append("Nothing else was looked at: where the store is cannot be told.")
        return failure(
            faults[0].message if len(faults) == 1 else f"{len(faults)} settings cannot be used.",
            evidence=said,
            means="The server does not start. The other checks take what it has by default.",
            fix=Fix(text=faults[0].hint or "Correct it.", command="sojourn settings"),
        )
