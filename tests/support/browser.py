"""A real Chromium for the tests of the console, driven by Playwright.

Each user of a test has a browser context of their own. A context records what the page must not do: errors,
texts in its log, and requests to other origins.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.support.system import CALL_TIMEOUT_S

AXE = Path(__file__).resolve().parents[1] / "data" / "axe" / "axe.min.js"
REQUIRED = "REQUIRE_CHROMIUM"
"""The variable with which continuous integration makes a failure of what would be skipped."""
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 860}
ACTION_TIMEOUT_MS = 20_000
RUN_AXE = """async () => {
    const found = await axe.run(document, {resultTypes: ["violations"]});
    return found.violations
        .filter(each => ["serious", "critical"].includes(each.impact))
        .map(each => `${each.id}: ${each.nodes.map(node => node.html.slice(0, 160)).join(" | ")}`);
}"""


def installed_chromium() -> str:
    """The path of Chromium. Without it, the test is skipped, or fails if it is required."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        reason = "Chromium is not installed: Debian has it in the package `chromium`"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of a module. Playwright keeps an event loop in this thread until its end."""
    executable = installed_chromium()
    expect.set_options(timeout=ACTION_TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page of the console in a browser context of its own, with a record of what happened in it."""

    url: str
    context: BrowserContext
    page: Page
    log: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def note_request(self, request: Request) -> None:
        self.requested.append(request.url)

    def note_log(self, message: ConsoleMessage) -> None:
        self.log.append(message.text)

    def note_error(self, error: Error) -> None:
        self.errors.append(str(error))

    def open(self, path: str = "/") -> Page:
        self.page.goto(f"{self.url}{path}")
        return self.page

    def serious_findings(self) -> list[str]:
        """The serious and critical findings of axe in the page as it is now."""
        self.page.evaluate(AXE.read_text())
        found: list[str] = self.page.evaluate(RUN_AXE)
        return found

    def foreign_requests(self) -> list[str]:
        """The addresses outside of the service that the page has asked for."""
        own = (f"{self.url}/", "data:", "blob:")
        return [url for url in self.requested if not url.startswith(own)]


Visitor = Callable[..., Visit]


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """A function that opens a page in a new context. At the end no page may have broken the rules."""
    visits: list[Visit] = []

    def visit(url: str, **options: Any) -> Visit:
        context = browser.new_context(viewport=options.pop("viewport", DESKTOP), **options)
        context.set_default_timeout(ACTION_TIMEOUT_MS)
        context.set_default_navigation_timeout(CALL_TIMEOUT_S * 1000)
        opened = Visit(url, context, context.new_page())
        context.on("request", opened.note_request)
        context.on("console", opened.note_log)
        opened.page.on("pageerror", opened.note_error)
        visits.append(opened)
        return opened

    yield visit
    for opened in visits:
        opened.context.close()
        assert opened.errors == []
        assert opened.foreign_requests() == []
