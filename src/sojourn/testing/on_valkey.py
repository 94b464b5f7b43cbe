"""Serves beside a throwaway Valkey, to try that: `make run STORE=valkey`.

    python -m sojourn.testing.on_valkey [what `sojourn serve` understands]

Sessions and seats end with it; licenses and the record are kept in the data folder, as ever.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys

from sojourn.testing.redis_server import redis_server


def main() -> int:
    with redis_server() as server:
        environ = {"SOJOURN_SECRET": secrets.token_urlsafe(32), **os.environ}
        command = [sys.executable, "-m", "sojourn", "serve", "--store", server.url]
        with subprocess.Popen([*command, *sys.argv[1:]], env=environ) as process:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: process.terminate())
            return process.wait()


if __name__ == "__main__":
    sys.exit(main())
