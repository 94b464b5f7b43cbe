"""Operators at the console, in a real browser, before a server whose doctor has a patient to look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from sqlalchemy import text
from tests.api_harness import ADMIN, Served, World, served
from tests.browser.chromium import LOOKS, axe_looks
from tests.browser.stage import DEADLINE, Theme
from tests.patient import GONE, MISSING, SLOW, Patient

from sojourn.ledger import Role
from sojourn.service.operators import Operators

SECRET = "a-secret-for-tests-0123456789-abcdefghij"


class Hospital:
    """A server, its patient, and whatever browsers came."""

    def __init__(self, server: Served, patient: Patient) -> None:
        self.server = server
        self.world = server.world
        self.patient = patient

    @property
    def secrets(self) -> list[bytes]:
        return [each.encode() for each in self.world.settings.secret]

    def reset(self) -> None:
        """Make the patient well, and forget what was found."""
        patient = self.patient
        for gate in patient.gates.values():
            gate.set()
        patient.gates.clear()
        patient.asked.clear()
        patient.wrong.clear()
        patient.looked.clear()
        patient.busy, patient.gives_way = False, None
        rounds = self.world.app.context.rounds
        for thread in rounds._threads:
            thread.join(DEADLINE / 1_000)
        rounds._latest.clear()

    def falls_ill(self) -> None:
        self.patient.wrong |= {"schema.tables": MISSING, "store.speed": SLOW}

    @contextlib.contextmanager
    def without_ledger(self) -> Iterator[None]:
        """Take away the table that knows keys, as a restore of the wrong backup does."""
        database = self.world.ledger._db  # type: ignore[attr-defined]  # it is SQL
        rename = "ALTER TABLE {} RENAME TO {}"
        out, back = ("sojourn_api_keys", "api_keys_gone"), ("api_keys_gone", "sojourn_api_keys")
        database.transaction(lambda tx: tx.core(text(rename.format(*out))))
        try:
            yield
        finally:
            database.transaction(lambda tx: tx.core(text(rename.format(*back))))


@contextlib.contextmanager
def hospital() -> Iterator[Hospital]:
    patient = Patient()
    with served(World(doctor=patient.doctor(), site_name="Acme", secret=(SECRET,))) as server:
        yield Hospital(server, patient)


class Operator:
    """Somebody with a browser.

    Attributes:
        said: errors and warnings of the browser's console, but for answers that are refusals.
        elsewhere: requests to other hosts.
    """

    def __init__(
        self,
        browser: Browser,
        place: Hospital,
        *,
        width: int = 1280,
        theme: Theme = "light",
        scripts: bool = True,
        scale: float = 1,
        zone: str = "UTC",
    ) -> None:
        self.place = place
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        self.context: BrowserContext = browser.new_context(
            base_url=place.server.url,
            viewport={"width": width, "height": 900 if width > 640 else 844},
            color_scheme=theme,
            has_touch=width < 640,
            is_mobile=width < 640,
            device_scale_factor=scale,
            reduced_motion="reduce",
            java_script_enabled=scripts,
            locale="en-US",
            timezone_id=zone,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.context.set_default_timeout(DEADLINE)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda fault: self.said.append(str(fault)))
        self.page.on("request", self._asked)

    def sign_in(self, role: Role | None = None) -> Operator:
        """Open the console, signed in with a key of this role; with none, with the first admin's."""
        world = self.place.world
        key = world.keys[role] if role else ADMIN
        services = world.services
        done = Operators(services.keys, services.sessions, self.place.secrets).sign_in(key)
        url = self.place.server.url
        self.context.add_cookies([{"name": "sojourn-console", "value": done.value, "url": url}])
        self.page.goto("/console/doctor")
        return self

    def show_key(self, key: str) -> None:
        """Sign in as people do."""
        self.page.goto("/console")
        self.page.get_by_label("API key of an operator").fill(key)
        self.button("Sign in").click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def title(self) -> Locator:
        return self.page.get_by_role("heading", level=1)

    def check(self, name: str) -> Locator:
        return self.page.locator(f"#check-{name.replace('.', '-')}")

    def repair(self, name: str) -> Locator:
        """Return the button that repairs what one check found."""
        return self.check(name).get_by_role("button", name="Repair this alone")

    def look(self) -> None:
        """Run all checks, and wait until all were looked at."""
        self.page.locator("#look button").click()
        expect(self.page.locator("#summary")).to_contain_text("6 checks looked at.")
        expect(self.page.locator("progress")).to_have_count(0)

    def violations(self) -> list[str]:
        again = self.page.evaluate(
            "typeof axe === 'object'"
        )  # to load it takes longer than to ask it
        said = self.page.evaluate("axe.run()") if again else Axe().run(self.page).response
        found = said["violations"]
        return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]

    def overflows(self) -> bool:
        return bool(
            self.page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )

    def close(self) -> None:
        self.context.close()

    def _heard(self, message: object) -> None:
        kind, words = message.type, message.text  # type: ignore[attr-defined]  # Playwright's
        if kind in ("error", "warning") and "Failed to load resource" not in words:
            self.said.append(words)

    def _asked(self, request: object) -> None:
        if not request.url.startswith(self.place.server.url):  # type: ignore[attr-defined]  # Playwright's
            self.elsewhere.append(request.url)  # type: ignore[attr-defined]  # likewise


@contextlib.contextmanager
def operators(browser: Browser, place: Hospital) -> Iterator[Callable[..., Operator]]:
    """Make operators; afterwards, see that none asked another host or filled the browser's console."""
    made: list[Operator] = []

    def make(**look: object) -> Operator:
        made.append(Operator(browser, place, **look))  # type: ignore[arg-type]  # as Operator takes them
        return made[-1]

    yield make
    for each in made:
        each.close()
    place.reset()
    assert [said for each in made for said in each.said] == []
    assert [url for each in made for url in each.elsewhere] == []


def assert_looks_well(it: Operator) -> None:
    """In every look: axe finds nothing wrong (see `axe_looks`), and nothing sticks out."""
    seen = {}
    for width, theme in LOOKS:
        it.page.set_viewport_size({"width": width, "height": 844})
        it.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]  # as above
        violations = it.violations() if (width, theme) in axe_looks() else []
        seen[width, theme] = [*violations, *["overflows"] * it.overflows()]
    assert seen == {look: [] for look in LOOKS}


def signing_in(it: Operator) -> None:
    it.page.goto("/console")


def refused(it: Operator) -> None:
    it.show_key("a key that nobody ever made")
    expect(it.page.get_by_role("alert")).to_contain_text("This API key is not known")


def cookie_lost(it: Operator) -> None:
    it.page.goto("/console/sign-in?back=1")
    expect(it.page.get_by_role("alert")).to_contain_text("did not send the cookie back")


def down(it: Operator) -> None:
    it.sign_in()
    with it.place.without_ledger():
        it.page.reload()
    expect(it.title()).to_have_text("The store cannot be used")


def unlooked(it: Operator) -> None:
    it.sign_in()
    expect(it.title()).to_have_text("Nothing has been looked at yet.")


def running(it: Operator) -> None:
    it.place.falls_ill()
    it.place.patient.hold("store.clock")
    it.sign_in()
    it.button("Run all checks").click()
    expect(it.title()).to_have_text("Looking: 3 of 6 done")


def repair_next(it: Operator) -> None:
    running(it)
    it.repair("schema.tables").click()
    expect(it.title()).to_have_text("The repair comes next.")


def fine(it: Operator) -> None:
    it.sign_in().look()
    expect(it.title()).to_have_text("Sessions and seats are well.")


def found(it: Operator, role: Role | None = None) -> None:
    it.place.falls_ill()
    it.sign_in(role).look()
    expect(it.title()).to_have_text(MISSING.means)


def found_by_viewer(it: Operator) -> None:
    found(it, Role.VIEWER)
    expect(it.repair("schema.tables")).to_have_count(0)
    said = it.page.get_by_text("Your key may look, and not repair")
    expect(said).to_be_visible()
    said.evaluate("it => it.scrollIntoView({ block: 'center' })")


def repaired(it: Operator) -> None:
    found(it, Role.OPERATOR)
    it.repair("schema.tables").click()
    expect(it.page.locator("#notice")).to_contain_text("Repaired. 2 steps carried out")


def busy(it: Operator) -> None:
    found(it)
    it.place.patient.busy = True
    it.repair("schema.tables").click()
    expect(it.page.locator("#notice")).to_contain_text("Somebody else repairs just now.")


def gave_way(it: Operator) -> None:
    found(it)
    it.place.patient.gives_way = GONE
    it.repair("schema.tables").click()
    expect(it.page.locator("#notice")).to_contain_text("This did not come to its end.")


def signed_out_meanwhile(it: Operator) -> None:
    found(it)
    it.context.clear_cookies()
    it.repair("schema.tables").click()
    expect(it.page.locator("#notice")).to_contain_text("You are signed out.")


def changed(it: Operator) -> None:
    fine(it)
    it.place.falls_ill()
    it.place.world.app.context.rounds.quick()
    it.page.evaluate("htmx.ajax('GET', 'banner?seen=', '#banner')")
    expect(it.page.locator("#banner")).to_contain_text("Doctor finds failures now: Tables.")


def server_gone(it: Operator) -> None:
    found(it)
    it.context.set_offline(True)
    it.button("Run all checks").click()
    expect(it.page.locator("#notice")).to_contain_text("The server does not answer any more.")
    it.said.clear()  # that a request failed, which is what is shown


def browser_tried(it: Operator) -> None:
    fine(it)
    it.button("Try with this browser").click()
    it.page.get_by_text("Your browser keeps the cookie, and sends it back.").click()
    it.page.locator("#browser").scroll_into_view_if_needed()


STATES: dict[str, Callable[[Operator], None]] = {
    "console sign in": signing_in,
    "console sign in refused": refused,
    "console cookie lost": cookie_lost,
    "console down": down,
    "doctor unlooked": unlooked,
    "doctor running": running,
    "doctor repair next": repair_next,
    "doctor fine": fine,
    "doctor found": found,
    "doctor viewer": found_by_viewer,
    "doctor repaired": repaired,
    "doctor busy": busy,
    "doctor gave way": gave_way,
    "doctor signed out": signed_out_meanwhile,
    "doctor changed": changed,
    "doctor server gone": server_gone,
    "doctor browser": browser_tried,
}
