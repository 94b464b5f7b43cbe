"""`python -m sojourn` is `sojourn`."""

import sys

from sojourn.cli.entry import main

sys.exit(main())
