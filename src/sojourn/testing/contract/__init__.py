"""The contract of a store, as tests to subclass, in tiers.

| tier               | asks                                     | needs these fixtures                 |
|--------------------|------------------------------------------|--------------------------------------|
| StoreMeaning       | does each verb mean what it says?        | `store`                              |
| StoreConcurrency   | does it still, with many at once?        | `store`, `open_store`                |
| StoreProcesses     | and over processes, when one is killed?  | `store_url`                          |
| StoreFloods        | who keeps a seat when too many ask?      | `store`                              |
| StoreFaults        | does it still, when things break?        | `server`, `database_url`, `open_at`  |
| StoreRestarts      | is a restart of its server no event?     | `server`, `database_url`, `open_at`  |
| StoreLosses        | and if it loses what was answered?       | these and `ledger_url`               |
| StoreFreezes       | and while somebody stands still?         | `database_url`, `open_at`            |
| StoreCutOffs       | or is cut off from its server?           | the same, on a server                |
| StoreClocks        | and when its clock is set?               | `wall`, `database_url`, `open_at`    |

`store` is an empty store on the fixture `clock`, with the defaults of everything else. `open_store()`
opens the same data once more, on the same clock; leave the fixture out where that cannot be.
`StoreContract` is the first two tiers. See `faults`, `restarts`, `losses`, `freezes` and `clocks` for those
that break things. A file that one process writes at a time is held to `StoreFileFreezes`.
"""

import pytest

NOUNS = (
    "sessions",
    "seats",
    "denials",
    "doubts",
    "leases",
    "lines",
    "pools",
    "policies",
    "rooms",
    "allotments",
    "epochs",
    "events",
    "sweep",
    "pulse",
    "jumps",
    "text",
)
MORE = (
    "sign_ins",
    "sweep_races",
    "devices",
    "people",
    "repeats",
    "cutoffs",
    "session_races",
    "concurrency",
    "faults",
    "floods",
    "processes",
    "clocks",
    "restarts",
    "losses",
    "loss_walk",
)
for _name in (*NOUNS, *MORE):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from sojourn.testing.contract.allotments import AllotmentMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.clocks import StoreClocks  # noqa: E402  # after the above
from sojourn.testing.contract.concurrency import StoreConcurrency  # noqa: E402  # after the above
from sojourn.testing.contract.cutoffs import CutoffMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.denials import DenialMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.devices import DeviceMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.doubts import DoubtMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.epochs import EpochMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.events import EventMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.faults import StoreFaults  # noqa: E402  # after the above
from sojourn.testing.contract.floods import StoreFloods  # noqa: E402  # after the above
from sojourn.testing.contract.freezes import (  # noqa: E402  # after the above
    StoreCutOffs,
    StoreFileFreezes,
    StoreFreezes,
)
from sojourn.testing.contract.jumps import JumpMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.leases import LeaseMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.lines import LineMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.losses import StoreLosses  # noqa: E402  # after the above
from sojourn.testing.contract.people import PeopleMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.policies import PolicyMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.pools import PoolMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.processes import StoreProcesses  # noqa: E402  # after the above
from sojourn.testing.contract.pulse import PulseMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.repeats import (  # noqa: E402  # after the above
    RepeatMeaning,
    RepeatRaces,
)
from sojourn.testing.contract.restarts import StoreRestarts  # noqa: E402  # after the above
from sojourn.testing.contract.rooms import RoomMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.seats import SeatMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.sessions import SessionMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.sign_ins import SignInMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.sweep import SweepMeaning  # noqa: E402  # after the above
from sojourn.testing.contract.sweep_races import SweepRaces  # noqa: E402  # after the above
from sojourn.testing.contract.text import TextMeaning  # noqa: E402  # after the above


class StoreMeaning(
    SessionMeaning,
    SignInMeaning,
    CutoffMeaning,
    PeopleMeaning,
    DeviceMeaning,
    SeatMeaning,
    DenialMeaning,
    DoubtMeaning,
    LeaseMeaning,
    LineMeaning,
    PoolMeaning,
    PolicyMeaning,
    RoomMeaning,
    AllotmentMeaning,
    EpochMeaning,
    EventMeaning,
    SweepMeaning,
    PulseMeaning,
    JumpMeaning,
    RepeatMeaning,
    TextMeaning,
):
    """Every sentence of the contract, on a clock that the tests move."""


class StoreContract(StoreMeaning, StoreConcurrency, RepeatRaces, SweepRaces):
    """What every store must pass, wherever it keeps its data."""


__all__ = [
    "StoreClocks",
    "StoreConcurrency",
    "StoreContract",
    "StoreCutOffs",
    "StoreFaults",
    "StoreFileFreezes",
    "StoreFloods",
    "StoreFreezes",
    "StoreLosses",
    "StoreMeaning",
    "StoreProcesses",
    "StoreRestarts",
]
