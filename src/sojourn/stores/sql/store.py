"""The store on SQL: each verb is in the module of its noun."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.finding import Finding
from sojourn.lease import LeaseFilter
from sojourn.store import Outage, Swept
from sojourn.stores.sql import maintenance, outages
from sojourn.stores.sql.acquires import AcquireVerbs
from sojourn.stores.sql.allotments import AllotmentVerbs
from sojourn.stores.sql.creates import CreateVerb
from sojourn.stores.sql.cutoffs import CutOffVerb
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.doctor.examiner import quick
from sojourn.stores.sql.doubts import DoubtVerbs
from sojourn.stores.sql.ends import EndVerb
from sojourn.stores.sql.events import EventVerbs
from sojourn.stores.sql.lines import LineVerb
from sojourn.stores.sql.pools import Certificates
from sojourn.stores.sql.renewals import RenewVerb
from sojourn.stores.sql.requests import RequestVerbs
from sojourn.stores.sql.seats import SeatVerbs
from sojourn.stores.sql.sessions import SessionVerbs
from sojourn.stores.sql.table_watch import TableWatch


class SqlStore(
    SessionVerbs,
    CreateVerb,
    EndVerb,
    CutOffVerb,
    SeatVerbs,
    AcquireVerbs,
    LineVerb,
    RenewVerb,
    DoubtVerbs,
    EventVerbs,
    RequestVerbs,
    AllotmentVerbs,
):
    """Implements `sojourn.store.Store` on a database whose schema is in place."""

    def __init__(
        self,
        db: Database,
        *,
        max_pause: int,
        event_retention: int,
        ip_retention: int | None = None,
    ) -> None:
        self._db = db
        self.parallel = db.parallel
        self._max_pause = max_pause
        self._event_retention = event_retention
        self._ip_retention = ip_retention
        self._ips_in_events = ip_retention is None or ip_retention >= event_retention
        self._certificates = Certificates()
        self._watch = db.watch = TableWatch(db)

    def pulse(self) -> Outage | None:
        self._watch.begin()
        self._db.look_at_clock()
        return outages.pulse(self._db, max_pause=self._max_pause)

    def sweep(
        self, *, limit: int = 500, which: LeaseFilter | None = None, cutoffs_only: bool = False
    ) -> Swept:
        self._watch.begin()
        return maintenance.sweep(
            self._db,
            limit=limit,
            which=which,
            cutoffs_only=cutoffs_only,
            max_pause=self._max_pause,
            event_retention=self._event_retention,
            ip_retention=self._ip_retention,
        )

    def forget(self, user_id: str, *, session_ids: Sequence[str], pool_ids: Sequence[str]) -> None:
        maintenance.forget_canary(self._db, user_id, session_ids, pool_ids)

    def check(self) -> list[Finding]:
        return quick(self._db)

    def now(self) -> int:
        return self._db.read(Tx.now)

    def close(self) -> None:
        self._db.close()
