"""The console in a real Chromium: it keeps users and keys apart, runs no text, and recovers from faults."""

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import expect

from serve_app.api.operator_examples import BASE_MODEL_STATE, ME, USERS_REPORT
from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import Account
from tests.support.browser import Visitor
from tests.support.console import (
    HOSTILE,
    PAGES,
    RUN_INLINE,
    WITHOUT_REQUEST,
    go,
    loaded,
    sign_in,
    stored,
)
from tests.support.proxy import Proxy
from tests.support.service import Service
from tests.support.waiting import wait_until

LIMITS = WIDE_LIMITS


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    proxy = Proxy(service.settings.http.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(service: Service, alice: Account, visitor: Visitor, scheme: str) -> None:
    alice.create("Mine")
    job = alice.train("mine", background=True).json()
    visit = visitor(service.url, color_scheme=scheme)
    page = visit.open("/")
    expect(page.get_by_label("API key")).to_be_focused()
    assert visit.serious_findings() == []
    sign_in(visit, alice.key)
    for name in PAGES:
        go(page, name)
        loaded(page)
        assert visit.serious_findings() == [], name
    alice.http.post(f"/v1/jobs/{job['id']}/cancel")


def test_key_is_nowhere_but_in_the_storage_of_the_tab(
    service: Service, alice: Account, visitor: Visitor
) -> None:
    alice.create("Mine")
    visit = visitor(service.url)
    page = sign_in(visit, alice.key)
    for name in PAGES:
        go(page, name)
        loaded(page)
        if name not in WITHOUT_REQUEST:
            page.get_by_role("button", name="Show request").click()
            expect(page.locator("pre.code")).to_contain_text("$TIGER_API_KEY")
        assert alice.key not in page.content() + page.url + stored(page), name
        page.keyboard.press("Escape")
    assert all(alice.key not in text for text in (*visit.requested, *visit.log))
    assert visit.log == []


def test_users_see_nothing_of_each_other(
    service: Service, alice: Account, bob: Account, visitor: Visitor
) -> None:
    """They use two browsers, and then the same tab one after the other."""
    alice.create("Plans of Alice")
    bob.create("Plans of Bob")
    first, second = visitor(service.url), visitor(service.url)
    page, other = sign_in(first, alice.key), sign_in(second, bob.key)
    expect(page.get_by_text("Plans of Alice")).to_be_visible()
    expect(other.get_by_text("Plans of Bob")).to_be_visible()
    assert "Plans of Bob" not in page.content() and "Plans of Alice" not in other.content()
    go(page, "teach")
    page.get_by_label("Question", exact=True).fill("a question of Alice")
    page.route("**/v1/generate_response", lambda route: None)  # it has no answer yet
    page.get_by_role("button", name="Get answers").click()
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").fill(bob.key)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Question", exact=True)).to_have_value("")
    for name in ("models", "teach", "jobs"):
        go(page, name)
        loaded(page)
        assert "of Alice" not in page.content(), name


def test_revoked_key_leads_to_the_sign_in(service: Service, alice: Account, visitor: Visitor) -> None:
    made = alice.http.post("/v1/keys", json={"name": "browser"}).json()
    page = sign_in(visitor(service.url), made["key"])
    assert alice.http.delete(f"/v1/keys/{made['id']}").status_code == 200
    reason = page.get_by_text("This key is no longer valid.")

    def is_refused() -> bool:
        for name in ("usage", "keys"):
            go(page, name)
            page.wait_for_load_state("networkidle")
        return reason.is_visible()

    wait_until(is_refused, 10)
    expect(page.get_by_label("API key")).to_be_visible()
    assert made["key"] not in page.content() + page.evaluate("JSON.stringify(sessionStorage)")


def test_hostile_texts_stay_texts(service: Service, alice: Account, visitor: Visitor) -> None:
    alice.http.post("/v1/models", json={"name": "Mine", "description": HOSTILE, "parent_model": "one"})
    long = HOSTILE + "x" * 100_000
    answer = {"content": long, "stop_reason": "end_turn", "output_tokens": 9}
    body = {"responses": [answer, {**answer, "content": HOSTILE}], "revision": 0}
    page = sign_in(visitor(service.url), alice.key)
    expect(page.get_by_text("<script>window.ran = 1</script>")).to_be_visible()

    page.route("**/v1/generate_response", lambda route: route.fulfill(json=body))
    go(page, "teach")
    page.get_by_label("Question", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Get answers").click()
    expect(page.get_by_label("Answer 2", exact=True)).to_contain_text("<script>window.ran = 1</script>")
    page.get_by_role("button", name=f"Show all {len(long)} characters").click()
    expect(page.get_by_label("Answer 1", exact=True)).to_contain_text("x" * 100_000)
    page.get_by_role("button", name="Write an answer").click()
    page.get_by_label("Text of answer 3").fill(HOSTILE)
    made = page.evaluate("document.querySelector('main script, main [onerror], main [onload], bdi a')")
    assert made is None
    page.evaluate(RUN_INLINE)
    assert page.evaluate("window.ran") is None, "the Content-Security-Policy lets no inline script run"


def test_broken_stream_of_a_training_goes_on(
    service: Service, alice: Account, proxy: Proxy, visitor: Visitor, tmp_path: Path
) -> None:
    alice.create("Mine")
    job = alice.train("mine", background=True).json()
    page = sign_in(visitor(f"http://127.0.0.1:{proxy.port}"), alice.key)
    go(page, f"jobs/{job['id']}")
    expect(page.get_by_text("Waiting: it is your next training")).to_be_visible()
    proxy.darken()
    expect(page.get_by_text("The connection broke off.")).to_be_visible()
    expect(page.get_by_text("The service cannot be reached.")).to_be_visible()
    proxy.light()
    expect(page.get_by_text("The service answers again.")).to_be_visible()
    with ThreadPoolExecutor(
        1
    ) as pool:  # the thread of Playwright has an event loop, where handles do not wait
        pool.submit(service.work, "one", tmp_path).result(timeout=60)
    expect(page.get_by_role("link", name="Talk to revision 1")).to_be_visible()
    expect(page.get_by_text("The connection broke off.")).to_have_count(0)


def test_keys_are_made_shown_once_and_revoked(service: Service, alice: Account, visitor: Visitor) -> None:
    page = sign_in(visitor(service.url), alice.key)
    go(page, "keys")
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make the key").click()
    key = page.locator("pre.code").inner_text()
    assert service.account(alice.user, key).http.get("/v1/models").status_code == 200
    page.get_by_role("button", name="I have it").click()
    expect(page.get_by_role("cell", name="laptop", exact=True)).to_be_visible()
    assert key not in page.content()
    page.get_by_role("button", name="Revoke the key laptop").click()
    page.get_by_role("button", name="Revoke", exact=True).last.click()
    expect(page.get_by_role("cell", name="laptop", exact=True)).to_have_count(0)
    assert [each["name"] for each in alice.http.get("/v1/keys").json()] == ["test"]


def test_usage_is_saved_as_csv(service: Service, alice: Account, visitor: Visitor) -> None:
    assert alice.generate().status_code == 200
    wait_until(lambda: alice.http.get("/v1/usage").json()["data"] != [], 20)
    page = sign_in(visitor(service.url), alice.key)
    go(page, "usage")
    expect(page.get_by_role("img", name="Tokens by day")).to_be_visible()
    page.get_by_role("button", name="By model").click()
    expect(page.get_by_role("rowheader", name="one", exact=True)).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    assert saved.value.suggested_filename.startswith("usage-by-model-")
    (row,) = csv.DictReader(saved.value.path().read_text().splitlines())
    assert (row["model"], row["requests"]) == ("one", "1")


def test_operators_have_a_page_more(service: Service, alice: Account, visitor: Visitor) -> None:
    """The answers are the examples of the document. `test_operator.py` has the routes themselves."""
    visit = visitor(service.url)
    page = sign_in(visit, alice.key)
    loaded(page)
    expect(page.get_by_role("link", name="Operator")).to_have_count(0)
    me = ME | {"is_operator": True, "dashboard_url": "https://dashboard.example.com/"}
    page.route("**/v1/me", lambda route: route.fulfill(json=me))
    page.route("**/v1/operator/base_models", lambda route: route.fulfill(json=[BASE_MODEL_STATE]))
    page.route("**/v1/operator/users*", lambda route: route.fulfill(json=USERS_REPORT))
    page.reload()
    page.get_by_role("link", name="Operator").click()
    expect(page.get_by_role("row", name="SmolLM2-135M")).to_contain_text("1 of 1")
    expect(page.get_by_role("row", name="alice")).to_be_visible()
    expect(page.get_by_role("link", name="Ray's dashboard")).to_have_attribute("href", me["dashboard_url"])
    assert visit.serious_findings() == []


def test_keyboard_alone_signs_in_and_asks_a_question(
    service: Service, alice: Account, visitor: Visitor
) -> None:
    page = visitor(service.url).open("/")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(alice.key)
    page.keyboard.press("Enter")
    talk = page.get_by_role("link", name="Talk", exact=True).first
    expect(talk).to_be_visible()
    for _ in range(10):
        page.keyboard.press("Tab")
        if talk.evaluate("link => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Answer of One")).to_contain_text("Hi")
    expect(page.get_by_text("3 + 1 tokens")).to_be_visible()


def test_broken_answer_says_so_and_can_be_asked_again(
    service: Service, alice: Account, proxy: Proxy, visitor: Visitor
) -> None:
    page = sign_in(visitor(f"http://127.0.0.1:{proxy.port}"), alice.key)
    go(page, "talk")
    page.get_by_label("Your message").fill("endless")
    page.keyboard.press("Enter")
    answer = page.get_by_label("Answer of One")
    expect(answer).to_contain_text("Hi Hi Hi")
    proxy.darken()
    expect(page.get_by_text("The connection broke, so the answer is not whole.")).to_be_visible()
    proxy.light()
    expect(page.get_by_text("The service answers again.")).to_be_visible()
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_text("The connection broke")).to_have_count(0)
    expect(answer).to_contain_text("Hi Hi Hi")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped after")).to_be_visible()
