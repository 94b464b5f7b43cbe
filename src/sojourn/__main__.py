"""`python -m sojourn` is `sojourn`."""

import sys

from sojourn.cli.main import main

sys.exit(main())
