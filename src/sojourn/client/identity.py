"""Who this program is, so that after a crash it comes back to its own seat."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import sys
import uuid
from pathlib import Path

from sojourn.client.slots import slots
from sojourn.device import Device

MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
NAME_VARIABLE = "SOJOURN_CLIENT_ID"
KUBERNETES = "KUBERNETES_SERVICE_HOST"  # set in every pod
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # Docker's, Podman's
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
RANDOM_NODE = 1 << 40  # set in uuid.getnode() when no network card was found: not stable


def default_client_id(instance: str | None = None) -> str:
    """Name this program on this machine for this OS user, the same way after every restart.

    A hash of: the machine (its machine id, or else its network card, and its host name), the OS user, and
    the program (the module or script that was started). `instance` is appended as it is.

    Copies that run side by side are told apart by themselves: the second has `~2` at the end, the third `~3`.
    The number is claimed by a lock on a file, which the system frees when the process ends. A copy that
    was killed comes back under its own number, and so to its own seat (`slots.Slots`).

    SOJOURN_CLIENT_ID in the environment takes the place of the hash: a name that stays with the replica,
    where these facts change with every start. In a container, the network card does not count: a host
    name that stays, such as a StatefulSet's, is enough.
    """
    end = "" if instance is None else f".{instance}"
    name = (os.environ.get(NAME_VARIABLE, "").strip() or _hashed()) + end
    number = slots.claim(name)
    return name if number == 1 else f"{name}~{number}"


def _hashed() -> str:
    facts = (_machine(), platform.node(), _os_user(), _program())
    digest = hashlib.sha256("\0".join(facts).encode(errors="surrogateescape")).hexdigest()[:20]
    return f"py-{digest}"


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
    if _in_container():
        return _namespace()
    node = uuid.getnode()
    return "" if node & RANDOM_NODE else f"{node:012x}"


def _in_container() -> bool:
    """Tell whether the network card is one that was made up for this start alone."""
    return KUBERNETES in os.environ or any(path.exists() for path in CONTAINER_MARKS)


def _namespace() -> str:
    """Return the namespace of a pod, within which its host name is its own; empty elsewhere."""
    try:
        return NAMESPACE.read_text().strip()
    except OSError:
        return ""


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
