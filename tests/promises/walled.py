"""A server whose wall clock is set: `python -m tests.promises.walled serve --port=…`.

Python sleeps until an instant, and libfaketime calls an instant that has just passed invalid. A sleep that
short is over: that is no fault of the product, and must not look like one.
"""

from __future__ import annotations

import errno
import sys
import time
from functools import partial
from typing import Any


def forgiving(sleep: Any, seconds: float) -> None:
    try:
        sleep(seconds)
    except OSError as fault:
        if fault.errno != errno.EINVAL:
            raise


def main() -> None:
    time.sleep = partial(forgiving, time.sleep)
    from sojourn.cli.main import main as product  # noqa: PLC0415  # its modules may keep the function

    sys.argv[0] = "sojourn"
    product()


if __name__ == "__main__":
    main()
