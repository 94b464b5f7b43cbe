"""The security page and its calls, in the application's own process: what every adapter mounts.

    SessionMiddleware(app, account=Account(site_name="Acme", sign_in_url="/sign-in"))

The page is `/account/security` below wherever the application is, the calls are those of
`/api/user/active-sessions`. Where there are no WebSockets (WSGI, or sessions that a server keeps), the page
reads its list again each minute, and whenever somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sojourn.adapters.desk import Desk
from sojourn.decoding import prepared
from sojourn.errors import SettingsError
from sojourn.extras import need
from sojourn.people.account import AccountPages
from sojourn.people.calls import BODY_MAX, PeopleAnswer, PersonRequest, asked
from sojourn.people.pages import Look
from sojourn.service.sessions import SessionService


@prepared
class Account(Struct, frozen=True, kw_only=True):
    """What an application says about its people's pages.

    Attributes:
        site_name: in the header and in titles.
        sign_in_url: where people sign in; they are sent there with `next`, the page to come back to.
        change_password_url: where people change their password, such as /.well-known/change-password.
    """

    site_name: str = "Sojourn"
    sign_in_url: str = ""
    change_password_url: str = ""

    @property
    def look(self) -> Look:
        """Raises SettingsError for an address that is none."""
        return Look(
            site_name=self.site_name,
            sign_in_url=self.sign_in_url,
            change_password_url=self.change_password_url,
        )


def make_account(options: Account | Mapping[str, Any] | None) -> Account | None:
    """Read what a framework's configuration says. Raises SettingsError."""
    if options is None:
        return None
    if not isinstance(options, Account):
        unknown = set(options) - set(Account.__struct_fields__)
        if unknown:
            raise SettingsError(f"account: there is no option {min(unknown)!r}.")
        try:
            options = msgspec.convert(dict(options), Account)
        except msgspec.ValidationError as fault:
            raise SettingsError(f"account: {fault}.") from None
    options.look  # noqa: B018 - raises if it is wrong
    return options


class Mount:
    """The pages over whatever desk is open: one per process, made when first asked for.

    `sockets`: whether the application takes WebSockets, too. Raises SettingsError where what renders the
    page is not installed.
    """

    def __init__(self, account: Account, *, sockets: bool = False) -> None:
        need("jinja2", "pages", "The security page")
        self._look = account.look
        self._sockets = sockets
        self._made: tuple[Desk, AccountPages] | None = None

    def read(
        self,
        desk: Desk,
        *,
        method: str,
        path: str,
        query: str,
        peer: str | None,
        scheme: str,
        header: Callable[[str], str | None],
        body: bytes = b"",
    ) -> PersonRequest:
        """Read a request. `header` looks one up by its name in lower case; `path` is what follows the
        mount's prefix; of `body`, BODY_MAX bytes and one more are enough."""
        origin = desk.origin(
            peer, scheme, header("x-forwarded-for") or "", header("x-forwarded-proto") or ""
        )
        return asked(method, path, query, header, origin, body=body)

    def respond(
        self, desk: Desk, request: PersonRequest, *, prefix: str, accept_encoding: str
    ) -> PeopleAnswer | None:
        """Answer a request: status, headers, body; None if it is not ours."""
        pages = self.pages(desk)
        return pages.respond(request, prefix=prefix, accept_encoding=accept_encoding)

    def pages(self, desk: Desk) -> AccountPages:
        if self._made is None or self._made[0] is not desk:
            socket = self._sockets and isinstance(desk.sessions, SessionService)
            self._made = desk, AccountPages(desk.people, replace(self._look, socket=socket))
        return self._made[1]


READ = BODY_MAX + 1
"""Bytes of a body that `read` is given at most."""

__all__ = ["READ", "Account", "Mount", "make_account"]
