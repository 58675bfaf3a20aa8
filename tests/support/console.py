"""Steps that all tests of the console need."""

from playwright.sync_api import Page, expect

from tests.support.browser import Visit


def sign_in(visit: Visit, key: str) -> Page:
    page = visit.open("/")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    return page


def go(page: Page, name: str) -> None:
    page.evaluate("name => { location.hash = `#/${name}`; }", name)


def loaded(page: Page) -> None:
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator(".skeleton")).to_have_count(0)


def stored(page: Page) -> str:
    """Everything that the page has put where other tabs and later visits find it."""
    kept: str = page.evaluate("JSON.stringify([localStorage, document.cookie, history.state, name])")
    return kept
