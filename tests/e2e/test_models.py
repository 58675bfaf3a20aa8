"""Models over HTTP, in the real system."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

from tests.support.system import Client, System

BASES = ["smollm2-135m", "twin"]


def test_seeds_curl_line_lists_the_models(system: System, alice: Client) -> None:
    command = f'curl {system.url}/v1/models \\\n    -H "Authorization: Bearer $TIGER_API_KEY"'
    done = subprocess.run(
        ["bash", "-c", command.replace("curl ", "curl -sf ")],
        env={"TIGER_API_KEY": alice.key, "PATH": "/usr/bin:/bin", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == alice.http.get("/v1/models").text


def test_listing_has_base_models_default_first_then_own_oldest_first(alice: Client, bob: Client) -> None:
    alice.create("Zebra")
    alice.create("Ant", parent="twin")
    bob.create("Other")
    listing = alice.get("/v1/models")
    assert [model["id"] for model in listing] == [*BASES, "zebra", "ant"]
    assert [model["default_model"] for model in listing] == [True, False, False, False]
    assert [model["read_only"] for model in listing] == [True, True, False, False]
    assert [model.get("parent_model") for model in listing] == [None, None, "SmolLM2-135M", "SmolLM2-Twin"]


def test_two_users_may_have_models_of_one_name(alice: Client, bob: Client) -> None:
    alice.create("Same", temperature=0.1)
    bob.create("Same", temperature=0.9)
    assert alice.get("/v1/models/same")["temperature"] == 0.1
    assert bob.get("/v1/models/Same")["temperature"] == 0.9


def test_one_of_many_concurrent_creations_of_a_name_wins(alice: Client) -> None:
    body = {"name": "Wanted", "description": "", "parent_model": "twin"}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: alice.http.post("/v1/models", json=body).status_code, range(16)))
    assert sorted(answers) == [201] + [409] * 15
    assert [model["id"] for model in alice.get("/v1/models")] == [*BASES, "wanted"]


def test_foreign_model_looks_like_one_that_does_not_exist(alice: Client, bob: Client) -> None:
    alice.create("Secret")
    message = [{"role": "user", "content": "hi"}]
    group = [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]
    for ref in ("secret", "Secret", "secret@1"):
        absent = "absent" + ref[6:]
        for method, path, body in (
            ("GET", "/v1/models/{}", None),
            ("PATCH", "/v1/models/{}", {"description": "x"}),
            ("DELETE", "/v1/models/{}", None),
            ("GET", "/v1/models/{}/revisions", None),
            ("POST", "/v1/models/{}/revisions/0/activate", None),
            ("POST", "/v1/generate_response", {"model": "{}", "messages": message}),
            ("POST", "/v1/train", {"model": "{}", "messages": message, "responses": group}),
            ("POST", "/v1/models", {"name": "n", "description": "", "parent_model": "{}"}),
        ):
            foreign, missing = (
                bob.http.request(
                    method,
                    path.format(name),
                    json={k: name if v == "{}" else v for k, v in body.items()} if body else None,
                )
                for name in (ref, absent)
            )
            assert foreign.status_code == missing.status_code == 404, (method, path, foreign.text)
            assert foreign.content == missing.content
    assert alice.get("/v1/models/secret")["name"] == "Secret"


def test_change_keeps_the_id_and_moves_the_name(alice: Client) -> None:
    alice.create("Before", learning_rate=1e-3)
    changed = alice.call("PATCH", "/v1/models/before", {"name": "After", "beta": 0, "temperature": 2})
    assert (changed["id"], changed["name"], changed["beta"], changed["temperature"]) == (
        "before",
        "After",
        0,
        2,
    )
    assert changed["learning_rate"] == 1e-3
    assert alice.get("/v1/models/After") == alice.get("/v1/models/before") == changed
    alice.get("/v1/models/Before", status=404)


def test_deleted_model_is_gone_and_its_name_free(alice: Client) -> None:
    alice.create("Gone")
    assert alice.call("DELETE", "/v1/models/Gone") == {"id": "gone", "message": "model has been deleted"}
    alice.get("/v1/models/gone", status=404)
    assert alice.create("Gone")["revision"] == 0


def test_base_models_are_read_only(alice: Client) -> None:
    group = [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]
    train = {"model": "twin", "messages": [{"role": "user", "content": "x"}], "responses": group}
    for method, path, body in (
        ("PATCH", "/v1/models/twin", {"description": "x"}),
        ("DELETE", "/v1/models/SmolLM2-Twin", None),
        ("POST", "/v1/train", train),
    ):
        error = alice.call(method, path, body, 403)["error"]
        assert error["code"] == "model_read_only"
