"""What people see of their account: the page, its assets, and the calls behind it, in one place, so that
an application mounts all of it at once.

    pages = AccountPages(People(desk.sessions, desk.codec, rules=desk.rules), Look(sign_in_url="/sign-in"))
    answer = pages.respond(asked(…), prefix="/shop")          None: not ours
"""

from __future__ import annotations

from sojourn.people.calls import BASE, People, PeopleAnswer, PersonRequest, cors
from sojourn.people.pages import ASSETS_PATH, SECURITY_PATH, HtmlPage, Look, asset_page
from sojourn.people.security import SecurityPage

PATHS = (
    SECURITY_PATH,
    ASSETS_PATH + "{name}",
    BASE,
    BASE + "/{name}",
)
"""What an application routes here."""
METHODS = ("GET", "POST", "PATCH", "DELETE", "OPTIONS")
COMPONENT = "sojourn-active-sessions"
"""How the name of the component's file begins."""

READ = frozenset({"GET", "HEAD"})


class AccountPages:
    """Answers requests for the page, its assets and its calls. Safe from several threads."""

    def __init__(self, people: People, look: Look) -> None:
        self.people = people
        self.look = look
        self.security = SecurityPage(people, look)

    def respond(
        self, request: PersonRequest, *, prefix: str = "", accept_encoding: str = ""
    ) -> PeopleAnswer | None:
        """Answer a request: status, headers, body; None if it is for somebody else.

        `prefix` is what comes before the paths of ours in the address that the browser shows.
        """
        if is_call(request.path):
            return self.people.respond(request)
        found = self.page(request, prefix=prefix, accept_encoding=accept_encoding)
        return None if found is None else (found.status, found.headers, found.body)

    def page(
        self, request: PersonRequest, *, prefix: str = "", accept_encoding: str = ""
    ) -> HtmlPage | None:
        """Answer a request for the page or one of its assets; None if it is for neither."""
        if request.path == SECURITY_PATH and request.method in {*READ, "POST"}:
            return self.security.answer(request, prefix + SECURITY_PATH)
        if request.path.startswith(ASSETS_PATH) and request.method in READ:
            name = request.path.removeprefix(ASSETS_PATH)
            return self.lent(asset_page(name, accept_encoding), name, request.sender)
        return None

    def lent(self, page: HtmlPage | None, name: str, origin: str) -> HtmlPage | None:
        """Let pages of a trusted origin load the component's file, and no other one."""
        if page is None or not name.startswith(COMPONENT) or not self.people.permits(origin):
            return page
        headers = [(k, f"{v}, Origin" if k == "Vary" else v) for k, v in page.headers]
        return HtmlPage(page.status, [*headers, *cors(origin)], page.body)


def is_ours(path: str) -> bool:
    """Tell whether a path, from the mount on, may be one that `AccountPages` answers."""
    return is_call(path) or path == SECURITY_PATH or path.startswith(ASSETS_PATH)


def is_call(path: str) -> bool:
    return path == BASE or path.startswith(BASE + "/")
