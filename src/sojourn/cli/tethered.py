"""`sojourn …`, for the demo: the process ends with the one that started it. Run by `python -m`."""

from __future__ import annotations

import sys

from sojourn.cli.demo.tether import tie
from sojourn.cli.main import main

if __name__ == "__main__":
    tie()
    sys.exit(main())
