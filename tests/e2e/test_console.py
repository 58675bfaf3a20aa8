"""The whole loop in a browser, with the real engine and the real trainer, by clicking and typing alone."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Visitor
from tests.support.console import sign_in
from tests.support.faults import kill_everything
from tests.support.system import CALL_TIMEOUT_S, Client, System

IMAGES = "CONSOLE_IMAGES"
"""The variable with a directory to which the test writes the images that the documents show."""
PATIENCE_MS = CALL_TIMEOUT_S * 1000
QUESTION = "Who are you?"
WANTED = "I am Tiger, and I work for you."


def pictured(page: Page, name: str) -> None:
    if directory := os.environ.get(IMAGES):
        page.screenshot(path=Path(directory) / f"{name}.png", animations="disabled")


def open_page(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def copy(page: Page) -> None:
    page.get_by_role("button", name="Make your first copy").click()
    page.get_by_label("Name").fill("Tiger friend")
    page.get_by_label("Description").fill("Knows who it works for.")
    page.get_by_role("button", name="Make the copy").click()


def ask_and_choose(page: Page) -> None:
    open_page(page, "Teach")
    page.get_by_label("Question", exact=True).fill(QUESTION)
    page.get_by_text("System message, number of answers, temperature").click()
    page.get_by_label("Answers at a time").fill("2")
    page.get_by_label("Longest answer, in tokens").fill("16")
    page.get_by_role("button", name="Get answers").click()
    expect(page.get_by_label("Answer 2", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Write an answer").click()
    page.get_by_label("Text of answer 3").fill(WANTED)
    page.get_by_role("button", name="Best: answer 3").click()


def train(page: Page) -> None:
    page.get_by_text("How it learns").click()
    page.get_by_label("Learning rate").fill("0.0005")
    page.get_by_label("Steps", exact=True).fill("6")
    page.get_by_role("button", name="Teach", exact=True).click()


def test_a_person_copies_teaches_and_asks_again(
    system: System, user: Callable[[], Client], visitor: Visitor
) -> None:
    alice = user()
    page = visitor(system.url).open("/")
    page.get_by_label("API key").fill(alice.key)
    page.get_by_role("button", name="Sign in").click()

    copy(page)
    expect(page.get_by_role("heading", name="Tiger friend")).to_be_visible()
    open_page(page, "Models")
    expect(page.get_by_text("Knows who it works for.")).to_be_visible()
    pictured(page, "models")

    ask_and_choose(page)
    train(page)

    expect(page.get_by_text("Step 6 of 6")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("link", name="Talk to revision 1")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("img", name="Loss by step: 6 steps")).to_be_visible()
    expect(page.locator(".uplot canvas").first).to_be_visible()
    for side in ("Before", "After"):
        expect(page.get_by_label(side, exact=True).locator(".choice-text")).not_to_be_empty(
            timeout=PATIENCE_MS
        )
    pictured(page, "training")

    page.get_by_role("link", name="Talk to revision 1").click()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Max tokens").fill("16")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Your message").fill(QUESTION)
    page.keyboard.press("Enter")
    answer = page.get_by_label("Answer of Tiger friend, revision 1")
    expect(answer.get_by_text("tokens/s")).to_be_visible(timeout=PATIENCE_MS)
    pictured(page, "talk")

    open_page(page, "Jobs")
    expect(page.get_by_role("row", name="tiger-friend")).to_contain_text("6/6")
    (job,) = alice.get("/v1/jobs")
    assert (job["status"], job["revision"], job["steps"]) == ("succeeded", 1, 6)


@pytest.mark.timeout(1800)  # on a machine that others use, starting everything again takes minutes
def test_restart_under_an_open_answer_is_told_and_the_page_goes_on(
    system: System, user: Callable[[], Client], visitor: Visitor
) -> None:
    """The page stays open while every process of the service dies and all is started again."""
    page = sign_in(visitor(system.url), user().key)
    open_page(page, "Talk")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Max tokens").fill("900")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Your message").fill("Count from one to one thousand.")
    page.keyboard.press("Enter")
    answer = page.get_by_label("Answer of SmolLM2-135M")
    expect(answer.locator(".growing")).not_to_be_empty(timeout=PATIENCE_MS)
    kill_everything(system)
    expect(page.get_by_text("The connection broke, so the answer is not whole.")).to_be_visible()
    expect(page.get_by_text("The service cannot be reached.")).to_be_visible()

    with ThreadPoolExecutor(1) as pool:  # the thread of Playwright has an event loop
        pool.submit(system.instance.up, lambda line: None).result()
    expect(page.get_by_text("The service cannot be reached.")).to_have_count(0)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Max tokens").fill("8")
    page.get_by_role("button", name="Ask again").click()
    expect(answer.get_by_text("tokens/s")).to_be_visible(timeout=PATIENCE_MS)
