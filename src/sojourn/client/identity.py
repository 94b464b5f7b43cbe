"""Who this program is, so that after a crash it comes back to its own seat."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import sys
import uuid
from pathlib import Path

from sojourn.device import Device

MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
NAME_VARIABLE = "SOJOURN_CLIENT_ID"
RANDOM_NODE = 1 << 40  # set in uuid.getnode() when no network card was found: not stable


def default_client_id(instance: str | None = None) -> str:
    """Name this program on this machine for this OS user, the same way after every restart.

    A hash of: the machine (its machine id, or else its network card, and its host name, which tells
    containers of one image apart), the OS user, and the program (the module or script that was
    started). `instance` is appended as it is; copies that run side by side need one each, since two
    holders of one name take the seat from each other.

    Where these change with every start, as in containers, SOJOURN_CLIENT_ID in the environment takes their
    place: a name that stays with the replica, such as a StatefulSet's. It gets its own seat back at once.
    """
    end = "" if instance is None else f".{instance}"
    if named := os.environ.get(NAME_VARIABLE, "").strip():
        return named + end
    facts = (_machine(), platform.node(), _os_user(), _program())
    digest = hashlib.sha256("\0".join(facts).encode(errors="surrogateescape")).hexdigest()[:20]
    return f"py-{digest}{end}"


def default_device() -> Device:
    """Describe this machine for the people who look at a list of seats."""
    return Device(
        name=_shown(platform.node()),
        os=_shown(f"{platform.system()} {platform.release()}"),
        kind="program",
    )


def _machine() -> str:
    for path in MACHINE_IDS:
        try:
            if text := path.read_text().strip():
                return text
        except OSError:
            continue
    node = uuid.getnode()
    return "" if node & RANDOM_NODE else f"{node:012x}"


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this uid: usual in containers
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def _program() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:  # python -m package.module
        return f"-m {spec.name}"
    script = sys.argv[0] if sys.argv else ""
    return str(Path(script).resolve()) if script not in {"", "-", "-c"} else sys.executable


def _shown(text: str) -> str | None:
    """Keep what a server accepts as a name: printable, at most 256 characters."""
    return "".join(c for c in text if c.isprintable()).strip()[:256] or None
