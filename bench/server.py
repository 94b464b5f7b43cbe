"""The server under test: Sojourn as it is served, without its batcher, or the empty application."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import empty
import uvicorn
from places import ADMIN_KEY, SECRET

from sojourn.api.app import create_app
from sojourn.api.server import server_config, settle_down
from sojourn.service.services import Services
from sojourn.session import Session
from sojourn.settings import Settings
from sojourn.stores.open import migrate, open_ledger, open_store, recorder_of
from sojourn.token import Keyring


class Unbatched:
    """What the batcher replaces: a thread per request, a transaction per request."""

    depth = 0
    withdrawn = 0

    def __init__(self, verbs: dict[str, Callable[[Sequence[Any]], Sequence[Any]]]) -> None:
        self._verbs = verbs

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        return None

    def refuses(self, **_: bool) -> bool:
        return False

    def withdraw(self, _item: Any) -> bool:
        return False

    def ask(self, verb: str, request: Any, **_: float) -> Any:
        return self._verbs[verb]([request])[0]

    def submit(self, verb: str, request: Any, _caller: Any = None) -> asyncio.Future[Any]:
        def run() -> Any:
            answer = self._verbs[verb]([request])[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return self._loop.run_in_executor(None, run)

    def put(
        self, verb: str, request: Any, answered: Callable[[Any], None], _caller: Any = None
    ) -> None:
        def settle(future: asyncio.Future[Any]) -> None:
            answered(future.exception() or future.result())

        self.submit(verb, request).add_done_callback(settle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store", default="memory:")
    parser.add_argument("--ledger", help="where the record is, if not beside the store")
    parser.add_argument("--empty", action="store_true")
    parser.add_argument("--unbatched", action="store_true")
    parser.add_argument("--queue", type=int, default=10_000, help="requests that may wait")
    parser.add_argument(
        "--every-touch", action="store_true", help="write every use of a session down"
    )
    given = parser.parse_args()
    if given.empty:
        uvicorn.run(
            empty.app,
            port=given.port,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="warning",
        )
        return
    record = given.ledger or given.store
    if not record.startswith("memory:"):
        migrate(record)
    store, ledger = open_store(given.store), open_ledger(record)
    keyring = Keyring([SECRET.encode()])
    services = Services(
        store, ledger, keyring, recorder=recorder_of(store, ledger), queue_max=given.queue
    )
    services.keys.ensure_admin(ADMIN_KEY)
    if given.unbatched:
        seats = services.seats
        services.batcher = Unbatched(  # type: ignore[assignment]  # the same two calls
            {
                "acquire": seats.acquire,
                "renew": seats.renew,
                "release": seats.release,
                "pulse": lambda _: [store.pulse()],
            }
        )
    if given.every_touch:
        Session.touch_due = property(lambda _: True)  # type: ignore[assignment,method-assign]  # to measure it
    settings = Settings(port=given.port, log_level="warning", queue_max=given.queue)
    app = create_app(services, settings)
    settle_down()  # as `sojourn serve` does
    uvicorn.run(app, **server_config(settings))


if __name__ == "__main__":
    main()
