"""What holds a store to its contract, and what tests of everything else build on.

A backend's test file is a fixture and a class:

    from sojourn.testing.contract import StoreContract

    class TestMine(StoreContract):
        @pytest.fixture
        def store(self, clock: ManualClock) -> Iterator[Store]:
            with closing(MyStore(clock=clock)) as store:
                yield store

and `TestMineAgainstMemory = machine_for(lambda clock: MyStore(clock=clock))` from
`sojourn.testing.machine` drives it side by side with the reference model.
"""

from sojourn.extras import need

for _package in ("pytest", "hypothesis"):
    need(_package, "testing", "The contract suite")
