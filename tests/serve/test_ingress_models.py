"""Models over HTTP: they are listed, made, changed and deleted, and another user sees nothing of them."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.account import Account, assert_error
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_listing_has_base_models_first_then_ones_own(alice: Account, bob: Account) -> None:
    alice.create("B")
    alice.create("A", parent="Two")
    bob.create("C")
    listing = alice.http.get("/v1/models")
    assert listing.headers["content-type"] == "application/json"
    assert [model["name"] for model in listing.json()] == ["One", "Two", "B", "A"]
    assert [model["default_model"] for model in listing.json()] == [True, False, False, False]


def test_listing_has_the_fields_of_the_contract(alice: Account) -> None:
    alice.create("Mine")
    fields = {
        "name", "id", "description", "read_only", "revision", "last_modified", "default_model", "temperature",
        "top_p", "learning_rate", "learning_steps", "beta", "epsilon",
    }  # fmt: skip
    base, _, mine = alice.http.get("/v1/models").json()
    assert set(base) == fields
    assert set(mine) == fields | {"parent_model"}
    assert (mine["parent_model"], mine["read_only"], mine["revision"]) == ("One", False, 0)
    assert mine["last_modified"].endswith("Z") and len(mine["last_modified"]) == len(
        "2025-02-02T12:34:58.488Z"
    )


def test_listing_as_ndjson_has_the_objects_of_the_array(alice: Account) -> None:
    alice.create("Mine")
    lines = alice.http.get("/v1/models", headers={"Accept": "application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in lines.text.splitlines()] == alice.http.get("/v1/models").json()


def test_curl_line_of_the_seed_works(service: Service, alice: Account) -> None:
    command = ["curl", "--silent", "--noproxy", "*", f"{service.url}/v1/models"]
    answer = subprocess.run(
        [*command, "-H", f"Authorization: Bearer {alice.key}"], capture_output=True, check=True
    )
    assert json.loads(answer.stdout) == alice.http.get("/v1/models").json()


def test_created_model_has_its_defaults(alice: Account) -> None:
    model = alice.create("MyCustomModel", beta=0.8)
    assert model["id"] == "mycustommodel"
    assert (model["rank"], model["alpha"], model["dropout"], model["base_model"]) == (8, 16, 0, "one")
    assert (model["beta"], model["epsilon"], model["status"]) == (0.8, 0.2, "ready")
    for ref in ("mycustommodel", "MyCustomModel"):
        assert alice.http.get(f"/v1/models/{ref}").json() == model


def test_name_with_spaces_is_found_url_encoded(alice: Account) -> None:
    model = alice.create("Mein Modell \u00e9%?#")
    assert alice.http.get("/v1/models/Mein%20Modell%20%C3%A9%25%3F%23").json() == model


def test_base_model_has_detail_too(alice: Account) -> None:
    detail = alice.http.get("/v1/models/One").json()
    assert (detail["base_model"], detail["status"], detail["read_only"]) == ("one", "ready", True)


@pytest.mark.parametrize("name", ["Mine", "mine", "One", "one"])
def test_name_that_means_another_model_is_taken(alice: Account, name: str) -> None:
    alice.create("Mine")
    body = {"name": name, "description": "", "parent_model": "one"}
    assert_error(alice.http.post("/v1/models", json=body), 409, "name_taken", "name")


def test_one_of_many_creations_of_a_name_wins(alice: Account) -> None:
    body = {"name": "Mine", "description": "", "parent_model": "one"}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: alice.http.post("/v1/models", json=body).status_code, range(10)))
    assert sorted(answers) == [201] + [409] * 9


def test_change_keeps_the_id(alice: Account) -> None:
    alice.create("Mine")
    changed = alice.http.patch("/v1/models/mine", json={"name": "Yours", "temperature": 0}).json()
    assert (changed["id"], changed["name"], changed["temperature"]) == ("mine", "Yours", 0)
    assert alice.http.get("/v1/models/Yours").json() == changed
    assert_error(alice.http.get("/v1/models/Mine"), 404, "model_not_found", "model")


def test_deleted_model_is_gone_from_replicas_too(service: Service, alice: Account) -> None:
    alice.create("Mine")
    job = alice.train("mine", background=True).json()
    record = json.loads(service.store.get(f"jobs/{alice.user}/{job['id']}/job.json").body)
    service.work("one", service.signals)
    wait_until(lambda: alice.http.get("/v1/models/mine").json()["status"] == "ready", 10)
    response = alice.http.delete("/v1/models/mine")
    assert response.json() == {"id": "mine", "message": "model has been deleted"}
    assert_error(alice.http.get("/v1/models/mine"), 404, "model_not_found", "model")
    assert (service.signals / f"unloaded {record['uid']}").exists()
    assert service.store.list(f"models/{record['uid']}/") == []


@pytest.mark.parametrize("ref", ["one", "One"])
def test_base_model_is_read_only(alice: Account, ref: str) -> None:
    path = f"/v1/models/{ref}"
    assert_error(alice.http.patch(path, json={"description": "mine"}), 403, "model_read_only", "model")
    assert_error(alice.http.delete(path), 403, "model_read_only", "model")
    assert_error(alice.http.post(f"{path}/revisions/0/activate"), 403, "model_read_only", "model")
    assert_error(alice.train(ref), 403, "model_read_only", "model")


def test_another_users_model_answers_like_one_that_does_not_exist(alice: Account, bob: Account) -> None:
    bob.create("Theirs", parent="two")
    bob.train("theirs", background=True)

    def answers(ref: str) -> list[tuple[int, bytes]]:
        path = f"/v1/models/{ref}"
        responses = [
            alice.http.get(path),
            alice.http.get(f"{path}@0"),
            alice.http.patch(path, json={"description": "mine"}),
            alice.http.delete(path),
            alice.http.get(f"{path}/revisions"),
            alice.http.post(f"{path}/revisions/0/activate"),
            alice.http.post("/v1/models", json={"name": "X", "description": "", "parent_model": ref}),
            alice.generate(model=ref),
            alice.train(ref),
        ]
        for response in responses:
            param = "parent_model" if response.request.url.path == "/v1/models" else "model"
            assert_error(response, 404, "model_not_found", param)
        return [(response.status_code, response.content) for response in responses]

    assert answers("theirs") == answers("nothing")


def test_revision_that_does_not_exist_is_not_found(alice: Account) -> None:
    alice.create("Mine")
    assert_error(alice.http.get("/v1/models/mine@1"), 404, "revision_not_found", "model")
    assert_error(alice.generate(model="mine@1"), 404, "revision_not_found", "model")
    assert_error(alice.http.post("/v1/models/mine/revisions/1/activate"), 404, "revision_not_found", "n")
    huge = "9" * 30
    assert alice.http.post(f"/v1/models/mine/revisions/{huge}/activate").status_code in (404, 422)


def test_too_many_models_are_a_quota(alice: Account) -> None:
    for number in range(8):
        alice.create(f"Model {number}")
    response = alice.http.post("/v1/models", json={"name": "X", "description": "", "parent_model": "one"})
    assert_error(response, 429, "quota_exceeded")


def test_model_is_deleted_as_at_openai(alice: Account, bob: Account) -> None:
    alice.create("Mine")
    path = "/openai/v1/models/mine"
    assert alice.http.get(f"{path}@0").json()["id"] == "mine@0"
    assert_error(bob.http.delete(path), 404, "model_not_found", "model")
    assert_error(alice.http.delete(f"{path}@0"), 400, "invalid_request", "model")
    assert_error(alice.http.delete("/openai/v1/models/one"), 403, "model_read_only", "model")
    assert alice.http.delete(path).json() == {"id": "mine", "object": "model", "deleted": True}
    assert_error(alice.http.get(path), 404, "model_not_found", "model")
