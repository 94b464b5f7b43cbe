"""Signing in as a browser does, once; what was seen on the way is what the checks judge."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

from sojourn.doctor.browser.jar import Cookie, Jar
from sojourn.doctor.browser.probe import Probe, ProbeAnswer
from sojourn.errors import SettingsError

LOOKS = 12
"""How often the page is asked for, each time on a new connection. Of two servers that take turns or are
drawn by lot, both are met: all but once in 2,000 visits."""
PATIENCE = 0.4
"""Seconds that a session may take to be saved after its redirect was sent."""
HOPS_MAX = 6
FORM = "application/x-www-form-urlencoded"
USUAL = ("sojourn", "connect.sid", "sessionid", "session", "sid", "jsessionid", "phpsessid")


class Login(Struct, frozen=True):
    """The request that signs a canary in: what a form would send."""

    method: str = "POST"
    path: str = "/login"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


def read_login(text: str) -> Login:
    """Read a request: `POST /login`, headers, an empty line, the body. Raises SettingsError."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.strip().split("\n")
    method, _, path = first.strip().partition(" ")
    path = path.partition(" ")[0]  # HTTP/1.1
    headers = tuple((k.strip(), v.strip()) for k, c, v in (x.partition(":") for x in lines) if c)
    if not (method.isalpha() and path.startswith("/")) or len(headers) != len(lines):
        raise SettingsError(
            "The sign-in request cannot be read.",
            hint="Write it as: POST /login, then headers, an empty line, and name=canary&password=…",
        )
    return Login(method.upper(), path, headers, body.strip())


class Seen(Struct, frozen=True, kw_only=True):
    """What happened.

    Attributes:
        cookies: what signing in set, as the last line for each says, dropped ones too; or, where it
            set nothing (`renewed` is false), what was set before.
        session: those of them by which people are most probably known.
        sent: what a browser sends to the page.
        looks: the page's answers to that, in order; nothing if nothing is sent.
    """

    front: ProbeAnswer
    login: ProbeAnswer  # the answer that set the session's cookie, or should have
    before: tuple[Cookie, ...]
    cookies: tuple[Cookie, ...]
    renewed: bool
    answers: tuple[ProbeAnswer, ...]
    anonymous: ProbeAnswer
    page: str
    sent: tuple[Cookie, ...]
    looks: tuple[ProbeAnswer, ...]
    session: tuple[Cookie, ...]


class BrowserLogin:
    """Visits at the first question, and remembers."""

    def __init__(
        self, probe: Probe, *, login: Login | None, page: str | None, names: tuple[str, ...] = ()
    ) -> None:
        self.probe = probe
        self.login = login
        self._page = page
        self._names = names
        self._seen: Seen | None = None

    def seen(self) -> Seen:
        """Return what was seen. Raises Unreachable."""
        if self._seen is None:
            self._seen = self._visit()
        return self._seen

    def forget(self) -> None:
        self._seen = None

    def _visit(self) -> Seen:
        jar = Jar()
        place = self.login.path if self.login else self.probe.url
        front = self.probe.ask("GET", place)
        before = jar.take(front.all("set-cookie"), front.url)
        answers, said, gone_to = [front], front, front.url
        if self.login is not None:
            said, answers, gone_to = self._sign_in(self.login, front, jar)
        page = self._page or (gone_to if self.probe.ours(gone_to) else self.probe.url)
        read = Jar()
        lines = [read.take(each.all("set-cookie"), each.url) for each in answers]
        set_now = {x.name: x for line in lines for x in line}
        cookies = tuple(set_now.values()) or tuple(before)
        sent = tuple(jar.sent(self._absolute(page)))
        session = self._session_of(cookies)
        looks = tuple(self._looks(page, jar)) if sent else ()
        return Seen(
            front=front,
            login=said,
            before=tuple(before) if self.login else (),
            cookies=cookies,
            renewed=bool(set_now),
            answers=tuple(answers),
            anonymous=self.probe.ask("GET", page),
            page=page,
            sent=sent,
            looks=looks,
            session=session,
        )

    def _sign_in(
        self, login: Login, front: ProbeAnswer, jar: Jar
    ) -> tuple[ProbeAnswer, list[ProbeAnswer], str]:
        """Send the request, follow where it leads: the answer, all answers, the last address."""
        headers = {"Origin": self.probe.origin, "Referer": front.url, **dict(login.headers)}
        body = login.body
        if login.method != "GET" and not any(k.lower() == "content-type" for k, _ in login.headers):
            headers["Content-Type"] = FORM
            given = parse_qsl(body, keep_blank_values=True)
            names = {name for name, _ in given}
            body = urlencode(given + [x for x in hidden_fields(front.text) if x[0] not in names])
        said = self.probe.ask(
            login.method,
            login.path,
            headers=headers,
            cookies=jar.header(front.url),
            body=body.encode() or None,
        )
        jar.take(said.all("set-cookie"), said.url)
        answers, last = [said], said
        for _ in range(HOPS_MAX):
            to = last.goes_to
            if to is None or not self.probe.ours(to) or self._page:
                break
            if self._is_page(to, last):
                return said, answers, to
            last = self.probe.ask("GET", to, cookies=jar.header(to))
            jar.take(last.all("set-cookie"), last.url)
            answers.append(last)
        return said, answers, last.goes_to or last.url

    def _is_page(self, to: str, last: ProbeAnswer) -> bool:
        """The first page after signing in is looked at by `_looks`, not followed here: it is there that
        a session which was not saved yet is missed."""
        return last.status in (302, 303) and urlsplit(to).path != (self.login or Login()).path

    def _looks(self, page: str, jar: Jar) -> list[ProbeAnswer]:
        cookies = jar.header(self._absolute(page))
        first = self.probe.ask("GET", page, cookies=cookies)
        time.sleep(PATIENCE)
        return [first] + [self.probe.ask("GET", page, cookies=cookies) for _ in range(LOOKS - 1)]

    def _absolute(self, page: str) -> str:
        return page if "://" in page else self.probe.origin + page

    def _session_of(self, cookies: tuple[Cookie, ...]) -> tuple[Cookie, ...]:
        """Find the session's among what was set: by the names given, usual ones, or by being a secret's
        home: unreadable for scripts, and long."""
        for names in (self._names, USUAL):
            if found := [x for x in cookies if _bare(x.name) in names]:
                return tuple(found)
        private = [x for x in cookies if x.http_only and len(x.value) >= 16]
        return tuple(private or [x for x in cookies if len(x.value) >= 16] or cookies)


def known(answer: ProbeAnswer, anonymous: ProbeAnswer, session: tuple[Cookie, ...]) -> bool | None:
    """Tell whether an answer is one for somebody who is signed in; None if nothing tells."""
    if answer.status in (401, 403):
        return False
    if answer.status >= 500:
        return None
    if answer.goes_to is not None and answer.goes_to == anonymous.goes_to:
        return False
    if anonymous.status != answer.status:
        return answer.status < 400
    names = {x.name for x in session}
    fresh = [line for line in answer.all("set-cookie") if line.partition("=")[0].strip() in names]
    old = {f"{x.name}={x.value}" for x in session}
    if any(line.partition(";")[0].strip() not in old for line in fresh):
        return False  # it was given another session, or none
    if answer.body == anonymous.body:
        return None
    return True


def _bare(name: str) -> str:
    return name.lower().removeprefix("__host-").removeprefix("__secure-")


class _Hidden(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "input" and said.get("type") == "hidden" and said.get("name"):
            self.found.append((str(said["name"]), said.get("value") or ""))


def hidden_fields(page: str) -> list[tuple[str, str]]:
    """Find what a form sends besides what people write into it: a token against forgery, mostly."""
    parser = _Hidden()
    parser.feed(page)
    return parser.found
