"""The data folder of a server: its secret, and what this host's commands need to reach it.

<data>/            0700
<data>/secret      0600   made at the first start of an embedded store
<data>/findings/   0700   what doctor found last, where there are several workers
<data>/metrics/    0700   what each of them has counted
<data>/server.json 0600   the server's address, its process id while it runs, the first admin key
<data>/relay.json  0600   of a relay: what was allotted to it; see `region.state`
<data>/server.lock 0600   locked by the server while it runs; the system lets go of it when that dies
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from sojourn.decoding import prepared
from sojourn.errors import SettingsError
from sojourn.settings import Settings, check_secret
from sojourn.stores.owner import hand_over_lock

if sys.platform != "win32":
    import fcntl

SECRET_BYTES = 48
RELAY_FILE = "relay.json"


@prepared
class Remembered(Struct, frozen=True, kw_only=True):
    """What `server.json` says."""

    url: str = ""
    key: str = ""
    pid: int | None = None  # None: not running, as far as it could say


class DataFolder:
    """Only its owner may look inside."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._claim: int | None = None

    @property
    def server_file(self) -> Path:
        return self.path / "server.json"

    @property
    def secret_file(self) -> Path:
        return self.path / "secret"

    def make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)  # also where it was made by hand, or under a loose umask

    def claim(self) -> bool:
        """Become the one server that this folder remembers, until this process ends; False if another is."""
        if sys.platform == "win32":
            return True
        file = self.path / "server.lock"
        claim = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        if os.geteuid() == 0:  # a command under `sudo`: the server must be able to open it
            hand_over_lock(file, self.path)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(claim)
            return False
        self._claim = claim
        return True

    @property
    def claimed(self) -> bool:
        return self._claim is not None or sys.platform == "win32"

    def give_up(self) -> None:
        """Let the next one claim the folder."""
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def secret(self) -> str:
        """Return the secret kept here; make one at the first start."""
        if not self.secret_file.exists():
            with contextlib.suppress(FileExistsError):
                write_private(self.secret_file, new_secret() + "\n", exclusive=True)
        self.secret_file.chmod(0o600)
        return check_secret(self.secret_file.read_text().strip())

    def recall(self) -> Remembered:
        """Read what is remembered; nothing if there is no file, or one that is not ours."""
        try:
            return msgspec.json.decode(self.server_file.read_bytes(), type=Remembered)
        except (OSError, msgspec.DecodeError):
            return Remembered()

    def remember(self, what: Remembered) -> None:
        text = msgspec.json.format(msgspec.json.encode(what), indent=2).decode()
        write_private(self.server_file, text + "\n")

    def forget_process(self, pid: int) -> None:
        """Note that the server has stopped; leave the note of a successor alone."""
        known = self.recall()
        if known.pid == pid:
            self.remember(msgspec.structs.replace(known, pid=None))


def with_secret(settings: Settings, folder: DataFolder) -> Settings:
    """See to it that there is a secret: an embedded store's is made, and kept beside it. Raises
    SettingsError where the store is shared, since every server of it needs the same one."""
    if settings.secret:
        return settings
    if not settings.embedded:
        raise SettingsError(
            "No secret is set, and every server of a shared store needs the same one.",
            hint='export SOJOURN_SECRET="$(sojourn secret new)" — and give it to every server.',
        )
    return msgspec.structs.replace(settings, secret=(folder.secret(),))


def new_secret() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def write_private(path: Path, text: str, *, exclusive: bool = False) -> None:
    """Write a file that only its owner may read, all or nothing.

    With `exclusive`, raise FileExistsError where there is one: two servers that start at once agree
    on whichever secret came first.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    try:
        if exclusive:
            os.link(beside, path)
        else:
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
