"""The HTTP API. Where `httptools` is not installed, `import httptools` means `parser` from here on: uvicorn's
protocol, which ours extends, imports it by that name."""

import sys

try:
    import httptools  # noqa: F401  # only whether it is there
except ImportError:  # as on Windows
    from sojourn.api import parser

    sys.modules["httptools"] = parser
