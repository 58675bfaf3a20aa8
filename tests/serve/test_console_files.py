"""The page Teach with files: of the person's disk, and of those that the service keeps."""

from playwright.sync_api import Page, expect

from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import HELLO, Account
from tests.support.browser import Visitor
from tests.support.console import (
    cancel,
    go,
    jsonl,
    sign_in,
    start_training,
)
from tests.support.service import Service

LIMITS = WIDE_LIMITS


def upload_two_files(page: Page) -> None:
    """Upload a file that cannot be used, and one that is chosen then."""
    page.get_by_role("button", name="Uploaded file").click()
    upload = page.get_by_label("Upload a JSONL file")
    upload.set_input_files(jsonl({"messages": HELLO}))
    expect(page.get_by_text("Lines of lines.jsonl cannot be used.")).to_be_visible()
    upload.set_input_files(jsonl({"messages": [*HELLO, {"role": "assistant", "content": "Hi."}]}))
    expect(page.get_by_label("Training file").locator("option:checked")).to_contain_text("lines.jsonl")


def test_preferences_come_from_a_file(service: Service, alice: Account, visitor: Visitor) -> None:
    alice.create("Mine")
    sides = {"preferred_output": "Hi.", "non_preferred_output": "No."}
    outputs = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    page = sign_in(visitor(service.url), alice.key)
    go(page, "teach")
    page.get_by_role("button", name="Preferences").click()
    chooser = page.get_by_label("From a JSONL file")
    chooser.set_input_files({"name": "a.jsonl", "mimeType": "application/jsonl", "buffer": b"{"})
    expect(page.get_by_text("Line 1 is not valid JSON.")).to_be_visible()
    chooser.set_input_files(jsonl(*[{"input": {"messages": HELLO}, **outputs}] * 3))
    expect(page.get_by_text("3 pairs")).to_be_visible()
    start_training(page)
    cancel(page)
    ends = [(job["model"], job["status"]) for job in alice.http.get("/v1/jobs").json()]
    assert ends == [("mine", "cancelled")]


def test_examples_are_typed_or_come_from_an_uploaded_file(
    service: Service, alice: Account, visitor: Visitor
) -> None:
    alice.create("Mine")
    page = sign_in(visitor(service.url), alice.key)
    go(page, "teach")
    page.get_by_role("button", name="Examples").click()
    page.get_by_label("Question", exact=True).fill("Hello")
    expect(page.get_by_role("button", name="Teach", exact=True)).to_be_disabled()
    page.get_by_label("Answer to learn").fill("Hi.")
    start_training(page)
    cancel(page)
    page.get_by_role("button", name="Teach something new").click()
    expect(page.get_by_label("Question", exact=True)).to_have_value("")
    upload_two_files(page)
    page.get_by_label("Suffix of a copy").fill("friend")
    page.get_by_text("How it learns").click()
    page.get_by_label("Epochs").fill("2")
    start_training(page)
    (job,) = alice.http.get("/openai/v1/fine_tuning/jobs").json()["data"]
    assert (job["model"], job["hyperparameters"]["n_epochs"]) == ("mine", 2)
    cancel(page)


def test_files_are_listed_and_deleted(service: Service, alice: Account, visitor: Visitor) -> None:
    """A file that is deleted cannot be chosen any more, and is not the chosen one."""
    alice.create("Mine")
    visit = visitor(service.url)
    page = sign_in(visit, alice.key)
    go(page, "teach")
    page.get_by_role("button", name="Examples").click()
    upload_two_files(page)
    page.get_by_text("Your files: 2").click()
    assert visit.serious_findings() == []
    page.get_by_role("row", name="Delete the file").filter(has_not_text="cannot be used").get_by_role(
        "button"
    ).click()
    page.get_by_role("button", name="Delete for ever").click()
    expect(page.get_by_text("lines.jsonl is deleted.")).to_be_visible()
    expect(page.get_by_text("Your files: 1")).to_be_visible()
    expect(page.get_by_label("Training file").locator("option:checked")).to_have_text("Choose a file")
    (left,) = alice.http.get("/openai/v1/files").json()["data"]
    assert left["status"] == "error"
