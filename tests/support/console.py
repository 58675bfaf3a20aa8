"""Steps that all tests of the console need."""

import json
from typing import Any

from playwright.sync_api import FilePayload, Page, expect

from tests.support.browser import Visit

PAGES = ("models", "models/mine", "talk", "teach", "jobs", "usage", "keys")
WITHOUT_REQUEST = ("talk", "teach")
"""The pages that make no request of their own until the person asks for something."""
HOSTILE = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><svg onload='window.ran = 3'>"
    "[link](javascript:window.ran=4) <a href='https://elsewhere.example.com/'>go</a> \u202egnp.exe\u202c"
)
RUN_INLINE = """() => {
    const script = document.createElement("script");
    script.append("window.ran = 5");
    document.body.append(script);
}"""


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


def jsonl(*lines: dict[str, Any]) -> FilePayload:
    """A file that a page can choose."""
    content = "\n".join(json.dumps(line) for line in lines)
    return {"name": "lines.jsonl", "mimeType": "application/jsonl", "buffer": content.encode()}


def start_training(page: Page) -> None:
    """Start what is on the page Teach. No worker takes it, so it waits."""
    page.get_by_role("button", name="Teach", exact=True).click()
    expect(page.get_by_text("Waiting: it is your next training")).to_be_visible()


def cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("cancelled", exact=True)).to_be_visible()
