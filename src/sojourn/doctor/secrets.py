"""Secrets: are they there, good, unread by others, and the same in every server behind one address?"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from sojourn.clock import DAY
from sojourn.errors import SettingsError
from sojourn.finding import Area, Check, Finding, Fix, Part, Step, failure, ok, skipped, warning
from sojourn.ledger import Instance, Ledger
from sojourn.service.instances import running
from sojourn.settings import check_secret
from sojourn.token import Keyring

SHOWN_MAX = 10
NEW = Fix(
    text="Make a good one, and give it to every server. Put it first and the present one second: then "
    "nobody notices.",
    command='export SOJOURN_SECRET="$(sojourn secret new),$SOJOURN_SECRET"',
)
INSTEAD = Fix(
    text="Make a good one in its place, and give it to every server: none starts while this one is there, "
    "not even behind another. A line of sojourn.toml gives way to the environment.",
    command='export SOJOURN_SECRET="$(sojourn secret new)"',
)
SAME = Fix(
    text="Give every server the same list of secrets, in the same order: the first signs, all verify. To "
    "lose nobody, give each of them all secrets that are in use now, and drop the others a week later.",
    setting='secret = ["the first", "the others"]',
)


class Files(Struct, frozen=True):
    """Files that hold secrets, and may be nobody else's to read."""

    paths: tuple[Path, ...]

    def open_ones(self) -> list[tuple[Path, int]]:
        found = []
        for path in self.paths:
            try:
                mode = stat.S_IMODE(path.stat().st_mode)
            except OSError:
                continue  # not there, or not ours to look at
            if mode & 0o077:
                found.append((path, mode))
        return found

    def plan(self) -> Sequence[Step]:
        return [_closed(path, mode) for path, mode in self.open_ones()]

    def apply(self) -> Iterator[Step]:
        for path, mode in self.open_ones():
            path.chmod(mode & 0o700)
            yield _closed(path, mode)


class _Known(Struct, frozen=True):
    """What is registered, the fingerprints of the secrets here, the ledger's now."""

    instances: tuple[Instance, ...] = ()
    mine: tuple[str, ...] = ()
    now: int = 0


class SecretsExaminer:
    """Looks at the secrets of these settings, and at what running servers say of theirs."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        made: bool,
        files: Sequence[Path] = (),
        ledger: Callable[[], Ledger] | None = None,
        needs: tuple[str, ...] = (),
    ) -> None:
        """`made`: where none is set, the first start of a server makes one. `needs`: the checks without
        which the ledger is not looked at."""
        self._needs = needs
        self._secrets = tuple(secrets)
        self._made = made
        self._files = Files(tuple(files))
        self._ledger = ledger

    def checks(self) -> Sequence[Check]:
        where = "the setting `secret`"
        here = [
            ("secrets.set", "Is there a secret, and a good one?", where, self._set, True),
            ("secrets.rotation", "Is the list of secrets in order?", where, self._rotation, False),
            (
                "secrets.instances",
                "Have all servers the same secrets?",
                "ledger: instances",
                self._all,
                True,
            ),
            (
                "secrets.changed",
                "Do the secrets here open what servers have signed?",
                "ledger: instances",
                self._was,
                False,
            ),
        ]
        found = [
            Check(
                id=name,
                area=Area.SECRETS,
                title=title,
                looked_at=at,
                look=look,
                quick=quick,
                needs=() if name == "secrets.set" else self._needs,
                reads=frozenset({Part.INSTANCES, Part.MARKS}),
            )
            for name, title, at, look, quick in here
        ]
        found.insert(
            1,
            Check(
                id="secrets.files",
                area=Area.SECRETS,
                title="Can others on this host read the secrets?",
                looked_at=", ".join(map(str, self._files.paths)) or "no file",
                look=self._readable,
                repair=self._files,
                quick=True,
            ),
        )
        return found

    def close(self) -> None:
        """Does nothing: the caller owns the ledger."""

    def _set(self) -> Finding:
        if not self._secrets and self._made:
            return ok(
                "A server makes a secret at its first start, and keeps it in its data folder."
            )
        if not self._secrets:
            return failure(
                "There is no secret set, and every server of a shared store needs the same one.",
                means="The server does not start.",
                fix=Fix(
                    text="Make one, and give it to every server.",
                    command='export SOJOURN_SECRET="$(sojourn secret new)"',
                ),
            )
        for number, secret in enumerate(self._secrets, 1):
            try:
                check_secret(secret)
            except SettingsError as error:
                return failure(
                    error.message,
                    evidence=[
                        f"It is number {number} of {len(self._secrets)}; {len(secret)} characters."
                    ],
                    means="Who guesses it makes tokens and cookies for anybody. The server does not start.",
                    fix=INSTEAD,
                )
        if len(self._secrets) == 1:
            return ok("The secret is long, and no known one.")
        return ok(f"All {len(self._secrets)} secrets are long, and no known ones.")

    def _readable(self) -> Finding:
        found = self._files.open_ones()
        if not found:
            return ok("Only their owner can read the files that hold secrets.")
        paths = " ".join(str(path) for path, _ in found)
        return failure(
            "Others on this host can read files that hold secrets.",
            evidence=[f"{path} has the mode {mode:04o}." for path, mode in found],
            means="Whoever has an account here can sign tokens and cookies for anybody.",
            fix=Fix(
                text="Take their rights away. If others do use this host, make a new secret.",
                command=f"chmod go= {paths}",
            ),
        )

    def _all(self) -> Finding:
        """Whatever one server signs, every other must accept."""
        known = self._known()
        mine, alive = known.mine, running(known.instances, known.now)
        if not alive:
            return skipped("None of the servers says that it runs.")
        shown = [_line(x, mine) for x in alive[:SHOWN_MAX]]
        refused = [
            (signer, other)
            for signer in alive
            for other in alive
            if signer.fingerprints[0] not in other.fingerprints
        ]
        if refused:
            signer, other = refused[0]
            return failure(
                "Servers run with different secrets.",
                evidence=[f"{_name(other)} refuses what {_name(signer)} signs.", *shown],
                means="People and seats are refused at random, as their requests reach one server or "
                "another: signed out, or `token_forged`.",
                fix=SAME,
            )
        if len({x.fingerprints for x in alive}) > 1:
            return warning(
                "Servers have different lists of secrets: a change is under way.",
                evidence=shown,
                means="Nobody is refused as long as each server has what the others sign with.",
                fix=SAME,
            )
        if mine and any(mine[0] not in x.fingerprints for x in alive):
            return warning(
                "The servers run with another secret than the one set here.",
                evidence=shown,
                means="A server started with these settings would refuse what the others have signed.",
                fix=Fix(
                    text="Run doctor with the settings of a server: its folder, environment and user."
                ),
            )
        return ok(f"All servers that run have the same secrets: {len(alive):,}.", *shown)

    def _was(self) -> Finding:
        """What was signed in the last days was signed with secrets that servers had first."""
        known = self._known()
        if not known.instances:
            return skipped("None of the servers has run yet.")
        if not known.mine:
            return skipped("There is no secret set here to compare.")
        lost = [x for x in known.instances if x.fingerprints[0] not in known.mine]
        if not lost:
            return ok("Every secret that servers signed with in the last days is still accepted.")
        last = lost[0]
        ago = max(0, known.now - last.seen_at) / DAY
        return warning(
            "The secret was changed, and the old one is not accepted any more.",
            evidence=[
                f"{_name(last)} signed with it until {ago:.1f} days ago: {last.fingerprints[0]}."
            ],
            means="What it signed is refused: holders of seats have to acquire again, and applications "
            "with the same secret have signed everybody out.",
            fix=Fix(
                text="If you still have the old secret, put it second for a week.",
                setting='secret = ["the present one", "the old one"]',
            ),
        )

    def _rotation(self) -> Finding:
        if len(self._secrets) < 2:
            return skipped("There is one secret at most, and nothing to put in order.")
        if len(set(self._secrets)) < len(self._secrets):
            return warning(
                "A secret is in the list twice.",
                means="Nothing is broken; but somebody who meant to change it has not.",
                fix=NEW,
            )
        known = self._known()
        first = {x.fingerprints[0] for x in known.instances}
        same = [x for x in known.instances if x.fingerprints == known.mine]
        idle = [each for each in known.mine[1:] if each not in first]
        if same and idle and known.now - min(x.started_at for x in same) > DAY:
            return warning(
                "The secret that was added last signs nothing: it is not first.",
                evidence=[f"{each} has not been first in the last days." for each in idle],
                means="The first signs. Was a new one added at the end, the old one goes on signing.",
                fix=Fix(text="Put the new secret first, the old one second."),
            )
        return ok("The list of secrets is in order: the first signs, all verify.")

    def _known(self) -> _Known:
        if self._ledger is None:
            return _Known()
        ledger = self._ledger()
        try:
            keyring = Keyring([each.encode() for each in self._secrets])
            mine = keyring.fingerprints(ledger.mark()[0])
        except SettingsError:
            mine = ()
        return _Known(tuple(ledger.instances()), mine, ledger.now())


def _name(instance: Instance) -> str:
    return f"{instance.host}, process {instance.pid}"


def _line(instance: Instance, mine: tuple[str, ...]) -> str:
    shown = ", ".join(instance.fingerprints)
    here = " (as here)" if mine and instance.fingerprints == mine else ""
    return f"{_name(instance)}: {shown}{here}"


def _closed(path: Path, mode: int) -> Step:
    return Step(
        what=f"Let only its owner read {path}.",
        why=f"Its mode is {mode:04o}.",
        undo=f"chmod {mode:04o} {path}",
    )
