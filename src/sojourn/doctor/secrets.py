"""Secrets: are they there, good, unread by others, and the same in every server behind one address?"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from sojourn.clock import DAY
from sojourn.errors import SettingsError
from sojourn.finding import Area, Check, Finding, Fix, Part, Step, failure, ok, skipped, warning
from sojourn.ledger import Instance, Ledger
from sojourn.log import get_logger
from sojourn.service.instances import running
from sojourn.settings import check_secret
from sojourn.token import Keyring

log = get_logger(__name__)

SHOWN_MAX = 10
READ_MAX = 1 << 20
"""Bytes of a settings file in which a secret is looked for."""
WINDOWS = sys.platform == "win32"
"""There files have lists of rights, which a mode does not tell."""
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


class Exposed(Struct, frozen=True):
    """A file that others have rights to. `ours`: of the data folder, a plain file and this user's own."""

    path: Path
    mode: int
    ours: bool

    @property
    def others(self) -> bool:
        """Tell whether everybody on this host has, not only a group."""
        return bool(self.mode & stat.S_IRWXO)

    @property
    def command(self) -> str:
        who = "go" if self.ours else "o" if self.others else "g"
        return f"chmod {who}= {shlex.quote(str(self.path))}"


class Files:
    """Files that hold secrets, and may be nobody else's to read.

    Those of the data folder are closed. Others may be read by services, by just these rights: what
    closes them is said.
    """

    def __init__(self, own: Sequence[Path], beside: Sequence[Path], values: Sequence[str]) -> None:
        """`beside`: files that are looked at where they hold one of the `values`."""
        self.paths = tuple(dict.fromkeys((*own, *beside)))
        self._own = frozenset(own)
        self._values = tuple(each.encode() for each in values if each)

    def open_ones(self) -> list[Exposed]:
        found = []
        for path in () if WINDOWS else self.paths:
            try:
                at, link = path.stat(), path.is_symlink()
                own = path in self._own
                secret = own or self._holds_one(path)
            except OSError:
                continue  # not there, or not ours to look at
            mode = stat.S_IMODE(at.st_mode)
            if secret and mode & (stat.S_IRWXG | stat.S_IRWXO):
                mine = own and not link and stat.S_ISREG(at.st_mode) and _is_mine(at.st_uid)
                found.append(Exposed(path, mode, mine))
        return found

    def _holds_one(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            content = file.read(READ_MAX)
        return any(value in content for value in self._values)

    def plan(self) -> Sequence[Step]:
        return [_closed(each) for each in self.open_ones() if each.ours]

    def apply(self) -> Iterator[Step]:
        for each in self.open_ones():
            if not each.ours:
                continue
            try:
                _close(each)
            except OSError as error:  # the next look tells of it
                log.warning("doctor_cannot_close", file=str(each.path), error=str(error))
                continue
            yield _closed(each)


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
        beside: Sequence[Path] = (),
        values: Sequence[str] = (),
        ledger: Callable[[], Ledger] | None = None,
        needs: tuple[str, ...] = (),
    ) -> None:
        """`made`: where none is set, the first start of a server makes one. `files`: the data folder's,
        which hold secrets; `beside`: others, which may hold one of these or of the `values`. `needs`: the
        checks without which the ledger is not looked at."""
        self._needs = needs
        self._secrets = tuple(secrets)
        self._made = made
        self._files = Files(files, beside, (*secrets, *values))
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
        if WINDOWS:
            return skipped(
                "On Windows, who may read a file is not in its mode: nothing was looked at."
            )
        found = self._files.open_ones()
        if not found:
            return ok("Only their owner can read the files that hold secrets.")
        evidence = [f"{each.path} has the mode {each.mode:04o}." for each in found]
        text = "Take their rights away. If others do use this host, make a new secret."
        if not all(each.ours for each in found):
            text += " Doctor does so in the data folder alone: others' services may need theirs elsewhere."
        fix = Fix(text=text, command="\n".join(each.command for each in found))
        if not any(each.others for each in found):
            return warning(
                "A group on this host can read files that hold secrets.",
                evidence=evidence,
                means="Whoever is in that group can sign tokens and cookies for anybody.",
                fix=fix,
            )
        return failure(
            "Others on this host can read files that hold secrets.",
            evidence=evidence,
            means="Whoever has an account here can sign tokens and cookies for anybody.",
            fix=fix,
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


def _is_mine(owner: int) -> bool:
    return os.geteuid() in (0, owner)


def _close(file: Exposed) -> None:
    """Take all rights from others, of the file itself: a link that came in its place is not followed."""
    opened = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchmod(opened, file.mode & stat.S_IRWXU)
    finally:
        os.close(opened)


def _closed(file: Exposed) -> Step:
    return Step(
        what=f"Let only its owner read {file.path}.",
        why=f"Its mode is {file.mode:04o}.",
        undo=f"chmod {file.mode:04o} {shlex.quote(str(file.path))}",
    )
