"""The contract of a store, as tests to subclass, in tiers.

| tier               | asks                                     | needs these fixtures                 |
|--------------------|------------------------------------------|--------------------------------------|
| StoreMeaning       | does each verb mean what it says?        | `store`                              |
| StoreConcurrency   | does it still, with many at once?        | `store`, `open_store`                |
| StoreProcesses     | and over processes, when one is killed?  | `store_url`                          |
| StoreFaults        | does it still, when things break?        | `server`, `database_url`, `open_at`  |

`store` is an empty store on the fixture `clock`, with the defaults of everything else. `open_store()`
opens the same data once more, on the same clock; leave the fixture out where that cannot be.
`StoreContract` is the first two tiers. See `faults` for the third.
"""

import pytest

NOUNS = (
    "sessions",
    "seats",
    "denials",
    "leases",
    "pools",
    "events",
    "sweep",
    "pulse",
    "jumps",
    "text",
)
MORE = ("sign_ins", "people", "cutoffs", "session_races", "concurrency", "faults", "processes")
for _name in (*NOUNS, *MORE):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from sojourn.testing.contract.concurrency import StoreConcurrency  # noqa: E402  # after the above
from sojourn.testing.contract.cutoffs import CutoffMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.denials import DenialMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.events import EventMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.faults import StoreFaults  # noqa: E402  # after the above
from sojourn.testing.contract.jumps import JumpMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.leases import LeaseMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.people import PeopleMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.pools import PoolMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.processes import StoreProcesses  # noqa: E402  # after the above
from sojourn.testing.contract.pulse import PulseMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.seats import SeatMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.sessions import SessionMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.sign_ins import SignInMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.sweep import SweepMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.text import TextMeaning  # noqa: E402  # after the above


class StoreMeaning(
    SessionMeaning,
    SignInMeaning,
    CutoffMeaning,
    PeopleMeaning,
    SeatMeaning,
    DenialMeaning,
    LeaseMeaning,
    PoolMeaning,
    EventMeaning,
    SweepMeaning,
    PulseMeaning,
    JumpMeaning,
    TextMeaning,
):
    """Every sentence of the contract, on a clock that the tests move."""


class StoreContract(StoreMeaning, StoreConcurrency):
    """What every store must pass, wherever it keeps its data."""


__all__ = [
    "StoreConcurrency",
    "StoreContract",
    "StoreFaults",
    "StoreMeaning",
    "StoreProcesses",
]
