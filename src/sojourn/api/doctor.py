"""Doctor: what was found, look again, repair."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Annotated

from msgspec import Meta

from sojourn.api.call import OperatorCall, operator
from sojourn.api.context import Context
from sojourn.api.limits import too_slow
from sojourn.api.wire_doctor import DoctorBody, RepairedBody, doctor_body, mended_body
from sojourn.doctor.runs import Run
from sojourn.errors import NotFound
from sojourn.service.keys import Permission
from sojourn.wire.bodies import Done, Name, Wire

PATIENCE = 120.0
"""Seconds to wait for a run; past that it goes on without its caller, and GET shows how far it is."""


class RepairBody(Wire, frozen=True, kw_only=True):
    """`checks`: repair what these found wrong; none named: whatever can be."""

    checks: Annotated[tuple[Name, ...], Meta(max_length=200)] = ()


@operator("GET", "/api/doctor", may=Permission.READ)
def get_doctor(ask: OperatorCall) -> Done[DoctorBody]:
    """Show what doctor found last.

    The quick checks look at start and every few minutes (`doctor_interval`); all of them when somebody
    asks. Each says when it looked. What one worker found all of them show.
    """
    return Done(data=body_of(ask.context))


@operator("POST", "/api/doctor/run", may=Permission.READ)
def run_doctor(ask: OperatorCall) -> Awaitable[Done[DoctorBody]]:
    """Look at everything now, and show what was found.

    Changes nothing. Who asks while somebody else's run is under way is answered with that one.
    """
    context = ask.context
    return _looked(context, context.rounds.look())


@operator(
    "POST",
    "/api/doctor/repair",
    may=Permission.DOCTOR_REPAIR,
    problems=("repair_busy", "check_unknown", "shutting_down"),
)
def repair_with_doctor(ask: OperatorCall, body: RepairBody) -> Awaitable[Done[RepairedBody]]:
    """Repair what can be repaired without losing anything, and look again.

    Looks first: what is well is not touched, so a second call changes nothing. One doctor at a time.
    The steps that would be taken are shown by the other two calls, as `plan`.
    """
    context = ask.context
    known = {check.id for check in context.rounds.checks()}
    for name in body.checks:
        if name not in known:
            raise NotFound(f"There is no check {name!r}.", code="check_unknown")
    return _repaired(context, context.rounds.mend(body.checks, actor=ask.actor))


async def _looked(context: Context, run: Run) -> Done[DoctorBody]:
    await ended(run)
    return Done(data=body_of(context))


async def _repaired(context: Context, run: Run) -> Done[RepairedBody]:
    await ended(run)
    mended = [mended_body(each) for each in run.mended]
    message = f"{len(mended)} steps were carried out." if mended else "There was nothing to repair."
    return Done(data=RepairedBody(mended=mended, doctor=body_of(context)), message=message)


async def ended(run: Run) -> None:
    """Wait for the end of a run. Raises StoreUnavailable if it takes too long, and its fault."""
    try:
        async with asyncio.timeout(PATIENCE):
            async for _ in changes(run):
                pass
    except TimeoutError:
        raise too_slow() from None
    if run.fault is not None:
        raise run.fault


async def changes(run: Run) -> AsyncIterator[None]:
    """Yield once at first, then whenever there is more to see of a run, until it is over."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def notice() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has stopped, and nobody waits any more
            loop.call_soon_threadsafe(changed.set)

    forget = run.listen(notice)
    try:
        while True:
            changed.clear()
            over = run.over
            yield
            if over:
                return
            await changed.wait()
    finally:
        forget()


def body_of(context: Context) -> DoctorBody:
    rounds = context.rounds
    return doctor_body(
        rounds.latest(),
        [check.id for check in rounds.checks()],
        running=rounds.looking is not None,
        repairing=rounds.repairing,
    )


CALLS = (get_doctor, run_doctor, repair_with_doctor)
