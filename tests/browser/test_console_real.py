"""The console on a real server: a table that goes missing is named and made again, from the page itself."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from playwright.sync_api import Browser, expect
from tests.serving import ADMIN_KEY, Served, served


def test_a_table_that_goes_missing_is_made_again_from_the_page(
    chromium: Browser, tmp_path: Path
) -> None:
    """The console keeps its own sign-ins in that very table: a key opens it all the same."""
    with served(tmp_path) as server:
        context = chromium.new_context(base_url=server.url)
        page = context.new_page()
        title = page.get_by_role("heading", level=1)

        def show_key() -> None:
            page.get_by_label("API key of an operator").fill(ADMIN_KEY)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/console/overview")
            page.goto("/console/doctor")

        page.goto("/console")
        show_key()
        page.locator("#look button").click()
        expect(title).to_have_text("Sessions and seats are well.")
        with contextlib.closing(sqlite3.connect(server.data / "sojourn.db")) as database:
            database.execute("DROP TABLE sojourn_sessions")
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("you have to show your key again")
        show_key()
        page.locator("#look button").click()
        failed = page.locator("#check-schema-tables")
        expect(failed.locator("summary").first).to_contain_text("sessions")
        (said,) = ready(server)  # the run goes on, and may have found by now who needs that table
        assert said.startswith("Doctor finds failures: schema")
        failed.get_by_role("button", name="Repair this alone").click()
        expect(page.locator("#notice")).to_contain_text("Repaired.")
        expect(title).to_have_text("Sessions and seats are well.")
        assert ready(server) == []
        page.get_by_role("button", name="Sign out").click()
        show_key()
        page.reload()
        expect(title).to_have_text("Sessions and seats are well.")
        context.close()
        assert ADMIN_KEY not in server.log.read_text()


def ready(server: Served) -> list[str]:
    with server.admin() as http:
        answer = http.get("/readyz")
    assert answer.status_code == 200
    degraded: list[str] = answer.json()["degraded"]
    return degraded
