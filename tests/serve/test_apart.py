"""An object of another user gets the same answer as one that does not exist, wherever it can be named.

The places are read from /openapi.json, so that a new route cannot be forgotten: a route fails if it has a
parameter, or a text in its body, that this file does not know.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.account import Account
from tests.support.service import Service, train_once

# Of parameters and of fields of bodies: where something of a user is named, and what else there is.
REFERENCES = {
    "ref", "job_id", "key_id", "file_id", "model", "after", "parent_model", "idempotency-key",
    "training_file", "validation_file",
}  # fmt: skip
OTHERS = {
    "from": "2025-01-01",
    "to": "2025-01-02",
    "by": "day",
    "n": "1",
    "status": "queued",
    "limit": "20",
    "order": "desc",
    "purpose": "fine-tune",
    "follow": "false",
    "accept": "*/*",
}
TEXTS = {
    "name", "description", "expires", "content", "prompt", "stop", "user", "metadata", "store",
    "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "verbosity",
    "reasoning_effort", "tool_choice", "instructions", "input", "suffix",
}  # fmt: skip
PREFIXES = ("job-", "key-", "file-")
"""The beginnings of ids that tell only their kind."""
CHANGING = {"date", "x-request-id", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}
UPLOAD = "/openai/v1/files"
"""The route with a form: a purpose and a new file, which name nothing."""
WITHOUT_KEY = {"/healthz", "/readyz", "/openai/health"}


@dataclass(frozen=True)
class Call:
    """A request with one place that is still to be filled."""

    method: str
    path: str
    place: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.place}"

    def at(self, place: str, value: str) -> "Call":
        where, _, name = place.partition(" ")
        if where == "path":
            quoted = "".join(f"%{byte:02X}" for byte in value.encode())
            return replace(self, path=self.path.replace(f"{{{name}}}", quoted))
        if where == "query":
            return replace(self, query={**self.query, name: value})
        if where == "header":
            return replace(self, headers={**self.headers, name: value})
        return replace(self, body={**(self.body or {}), name: value})

    def send(self, account: Account, value: str) -> httpx.Response:
        call = self.at(self.place, value)
        return account.http.request(
            call.method, call.path, params=call.query, headers=call.headers, json=call.body
        )


@dataclass(frozen=True)
class Named:
    """A value that names something of Alice's, and a value of the same shape that names nothing."""

    kind: str
    theirs: str
    absent: str


def absent_of(value: str) -> str:
    """A value with other letters and digits, and the same lengths and marks.

    The number of a revision stays.
    """
    name, at, revision = value.partition("@")
    prefix, mark, name = name.partition("-") if name.startswith(PREFIXES) else ("", "", name)
    other = name.translate(str.maketrans("0123456789abcdef", "1032547698badcfe"))
    return prefix + mark + other + at + revision


def texts_in(schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Return True if a schema takes a text that the client chooses."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
        return False if schema.get("type") == "object" else texts_in(schema, schemas)
    forms = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if forms:
        return any(texts_in(form, schemas) for form in forms)
    if schema.get("type") == "array":
        return texts_in(schema.get("items", {}), schemas)
    return schema.get("type", "string") == "string" and not schema.keys() & {"enum", "const"}


def calls_of(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> list[Call]:
    """One call for each place where something of a user can be named."""
    places = [f"{parameter['in']} {parameter['name']}" for parameter in operation.get("parameters", ())]
    body = None
    if "requestBody" in operation:
        contents = operation["requestBody"]["content"]
        if contents.keys() == {"multipart/form-data"}:
            assert path == UPLOAD, f"{method} {path}: say in this file what its form may name"
            return []
        content = contents["application/json"]
        body = next(iter(content["examples"].values()))["value"]
        fields = schemas[content["schema"]["$ref"].rpartition("/")[2]]["properties"]
        texts = [name for name, schema in fields.items() if texts_in(schema, schemas)]
        places += [f"body {name}" for name in texts]
    unknown = {place.partition(" ")[2] for place in places} - REFERENCES - OTHERS.keys() - TEXTS
    assert not unknown, f"{method} {path}: say in this file what {unknown} may name"
    references = [place for place in places if place.partition(" ")[2] in REFERENCES]
    call = Call(method, path, "", body=body)
    for place in places:
        where, _, name = place.partition(" ")
        if name in OTHERS and where == "path":
            call = call.at(place, OTHERS[name])
    return [_elsewhere_absent(replace(call, place=place), references) for place in references]


def _elsewhere_absent(call: Call, references: list[str]) -> Call:
    """Make the other references of the request name nothing, so that the one place decides."""
    for other in references:
        if other != call.place and other.partition(" ")[0] in ("path", "body"):
            call = call.at(other, "nothing-of-this-name")
    return call


def seen_by(response: httpx.Response, value: str) -> tuple[int, dict[str, str], str]:
    """The status, the headers and the body.

    The echoed value, its length and the request are left out, because they differ.
    """
    headers = {name: text for name, text in response.headers.items() if name not in CHANGING}
    if "content-length" in headers:
        assert headers.pop("content-length") == str(len(response.content))
    shown = response.text.replace(json.dumps(value)[1:-1], "<value>").replace(value, "<value>")
    return response.status_code, headers, shown


@dataclass
class Alice:
    """A user with a trained model and a training that waits, and the values that name them."""

    account: Account
    named: list[Named]

    def everything(self) -> list[Any]:
        """Everything that Alice can see of her own."""
        http = self.account.http
        models = http.get("/v1/models").json()
        jobs = http.get("/v1/jobs").json()
        mine = [model["id"] for model in models if not model["read_only"]]
        return [
            models,
            jobs,
            [http.get(f"/v1/models/{model}").json() for model in mine],
            [http.get(f"/v1/models/{model}/revisions").json() for model in mine],
            [http.get(f"/v1/jobs/{job['id']}/events").text for job in jobs],
            [key["id"] for key in http.get("/v1/keys").json()],
            http.get(UPLOAD).json(),
            http.get("/openai/v1/fine_tuning/jobs").json(),
        ]


def upload(account: Account) -> str:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."}]
    file = ("a.jsonl", json.dumps({"messages": turns}).encode())
    answer = account.http.post(UPLOAD, data={"purpose": "fine-tune"}, files={"file": file})
    return str(answer.raise_for_status().json()["id"])


@pytest.fixture
def owner(service: Service, alice: Account, tmp_path: Path) -> Alice:
    key = {"Idempotency-Key": "a1b2c3d4"}
    body = {"name": "Face Cafe", "description": "", "parent_model": "one"}
    assert alice.http.post("/v1/models", json=body, headers=key).status_code == 201
    alice.create("Waiting", parent="two")
    done = train_once(service, alice, tmp_path, "face-cafe")["job"]
    waiting = alice.train("waiting", background=True).json()["id"]
    file = upload(alice)
    teaching = {"model": "waiting", "training_file": file}
    fine_tuning = (
        alice.http.post("/openai/v1/fine_tuning/jobs", json=teaching).raise_for_status().json()["id"]
    )
    record = json.loads(service.store.get(f"jobs/{alice.user}/{done}/job.json").body)
    values = {
        "id": "face-cafe",
        "name": "Face Cafe",
        "revision": "face-cafe@1",
        "revision of a name": "Face Cafe@0",
        "revision that she has not": "face-cafe@9",
        "uid": record["uid"],
        "adapter": f"{record['uid']}@1",
        "job": done,
        "waiting job": waiting,
        "fine-tuning job": fine_tuning,
        "file": file,
        "user": alice.user,
        "idempotency key": key["Idempotency-Key"],
        "key": alice.http.get("/v1/keys").json()[0]["id"],
    }
    return Alice(alice, [Named(kind, value, absent_of(value)) for kind, value in values.items()])


@contextmanager
def unchanged(owner: Alice) -> Iterator[None]:
    before = owner.everything()
    yield
    assert owner.everything() == before


def test_what_is_anothers_answers_like_what_is_not_there(
    service: Service, owner: Alice, bob: Account
) -> None:
    document = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    schemas = document["components"]["schemas"]
    calls = [
        call
        for path, operations in document["paths"].items()
        if path not in WITHOUT_KEY
        for method, operation in operations.items()
        for call in calls_of(path, method.upper(), operation, schemas)
    ]
    assert {str(call).rpartition(" ")[2] for call in calls} >= {"ref", "job_id", "model", "parent_model"}
    with unchanged(owner):
        for call in calls:
            for named in owner.named:
                assert named.theirs != named.absent
                theirs = seen_by(call.send(bob, named.theirs), named.theirs)
                absent = seen_by(call.send(bob, named.absent), named.absent)
                assert theirs == absent, f"{call}: {named.kind}"
                assert theirs[0] < 500, f"{call}: {named.kind}"
                assert theirs[0] != 401, f"{call}: {named.kind}"
    assert [model for model in bob.http.get("/v1/models").json() if not model["read_only"]] == []
    assert bob.http.get("/v1/jobs").json() == []


def test_name_of_anothers_model_is_free(owner: Alice, bob: Account) -> None:
    """The id is made as if nobody else had a model of this name."""
    with unchanged(owner):
        mine = bob.create("Face Cafe")
        assert (mine["id"], mine["revision"]) == ("face-cafe", 0)
        assert bob.http.get("/v1/models/face-cafe/revisions").json() == []
        assert bob.http.delete("/v1/models/Face Cafe").status_code == 200


def test_idempotency_key_of_another_user_is_ones_own(owner: Alice, bob: Account) -> None:
    key = {"Idempotency-Key": "a1b2c3d4"}
    body = {"name": "Another", "description": "", "parent_model": "two"}
    with unchanged(owner):
        assert bob.http.post("/v1/models", json=body, headers=key).json()["name"] == "Another"


def test_error_texts_name_nothing_of_the_inside(owner: Alice, bob: Account) -> None:
    """No answer to a stranger contains a user, a uid, a key of the bucket, a path or a class."""
    inside = re.compile(
        rf"{owner.account.user}|users/|models/|jobs/|Traceback|\.py|Error\(|/tmp|[0-9a-f]{{32}}"
    )
    for ref in ("face-cafe", "face-cafe@1", "Face Cafe"):
        for answer in (
            bob.http.get(f"/v1/models/{ref}"),
            bob.generate(model=ref),
            bob.train(ref),
            bob.http.delete(f"/v1/models/{ref}"),
        ):
            assert answer.status_code == 404
            assert not inside.search(answer.text), answer.text
