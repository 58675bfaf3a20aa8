"""The console keeps what a person has begun when the page is loaded again, and says what is missing."""

from playwright.sync_api import expect

from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import Account
from tests.support.browser import Visitor
from tests.support.console import cancel, go, sign_in, start_training
from tests.support.service import Service

LIMITS = WIDE_LIMITS


def test_own_answers_take_the_focus_and_are_not_empty(
    service: Service, alice: Account, visitor: Visitor
) -> None:
    alice.create("Mine")
    page = sign_in(visitor(service.url), alice.key)
    go(page, "teach")
    page.get_by_label("Question", exact=True).fill("Hello")
    page.get_by_role("button", name="Get answers").click()
    expect(page.get_by_label("Answer 4", exact=True)).to_be_visible()
    page.get_by_role("button", name="Write an answer").click()
    page.get_by_role("button", name="Best: answer 5").click()
    expect(page.get_by_text("Write the text of your own answers")).to_be_visible()
    expect(page.get_by_role("button", name="Teach", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Write an answer").click()
    expect(page.get_by_label("Text of answer 6")).to_be_focused()
    page.keyboard.type("Two words")
    expect(page.get_by_label("Text of answer 6")).to_have_value("Two words")
    page.get_by_role("button", name="Remove answer 5").click()
    expect(page.get_by_role("button", name="Teach", exact=True)).to_be_enabled()
    expect(page.get_by_text("set the learning rate to 0.0002")).to_be_visible()


def test_reload_keeps_what_is_taught_and_a_sign_out_forgets_it(
    service: Service, alice: Account, visitor: Visitor
) -> None:
    alice.create("Mine")
    page = sign_in(visitor(service.url), alice.key)
    go(page, "teach")
    page.get_by_role("button", name="Examples").click()
    page.get_by_label("Question", exact=True).fill("Hello")
    page.get_by_label("Answer to learn").fill("Hi.")
    page.reload()
    expect(page.get_by_label("Answer to learn")).to_have_value("Hi.")
    page.get_by_role("button", name="Add another one").click()
    page.get_by_role("button", name="Remove example 2").click()
    expect(page.get_by_label("Answer to learn")).to_have_value("Hi.")
    start_training(page)
    page.reload()
    expect(page.get_by_text("Waiting: it is your next training")).to_be_visible()
    cancel(page)
    page.get_by_role("button", name="Sign out").click()
    assert "Hi." not in page.evaluate("JSON.stringify(sessionStorage)")


def test_line_for_a_shell_signs_in(service: Service, alice: Account, visitor: Visitor) -> None:
    page = visitor(service.url).open("/")
    page.get_by_label("API key").fill(f"export TIGER_API_KEY={alice.key}")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()


def test_link_to_a_revision_begins_another_conversation(
    service: Service, alice: Account, visitor: Visitor
) -> None:
    page = sign_in(visitor(service.url), alice.key)
    go(page, "talk")
    page.get_by_label("Your message").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_text("3 + 1 tokens")).to_be_visible()
    go(page, "talk?model=one&with=two")
    expect(page.get_by_text("Ask anything")).to_be_visible()
    page.get_by_label("Your message").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_text("3 + 1 tokens")).to_have_count(2)
    go(page, "models")
    go(page, "talk?model=one&with=two")
    expect(page.get_by_text("3 + 1 tokens")).to_have_count(2)
