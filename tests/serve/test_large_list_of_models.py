"""A user with many models that have long descriptions: the list exceeds gRPC's default message limit."""

from registry.records import UserModels, generate_uid
from registry.user_models import UserModelStore
from serve_app.wire.models import MAX_DESCRIPTION_CHARACTERS
from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import RESPONSES, Account
from tests.support.service import Service

NUM_MODELS = 300
GRPC_DEFAULT_BYTES = 4 * 2**20
LIMITS = WIDE_LIMITS


def test_many_models_with_long_descriptions_work(service: Service, alice: Account) -> None:
    description = "\U0001f405" * MAX_DESCRIPTION_CHARACTERS
    alice.create("Mine")
    user_models = UserModelStore(service.store)
    (mine,) = user_models.load(alice.user).models.models
    update = {"description": description}
    models = UserModels(
        models=tuple(
            mine.model_copy(update={**update, "uid": generate_uid(), "id": f"m{n}", "name": f"M{n}"})
            for n in range(NUM_MODELS)
        )
    )
    assert len(models.model_dump_json().encode()) > GRPC_DEFAULT_BYTES
    owner = service.user()
    user_models.save(owner.user, models, None)

    assert len(owner.http.get("/v1/models").json()) == NUM_MODELS + 2
    assert len(owner.http.get("/openai/v1/models").json()["data"]) == NUM_MODELS + 2
    assert owner.http.get("/v1/models/M7").json()["description"] == description
    assert owner.create("One more", description=description)["id"] == "one-more"
    assert owner.generate(model="m299").status_code == 200
    assert owner.http.patch("/v1/models/m1", json={"name": "Other"}).json()["description"] == description
    assert owner.http.delete("/v1/models/m2").status_code == 200
    assert len(owner.http.get("/v1/models").json()) == NUM_MODELS + 2


def test_large_training_goes_through(alice: Account) -> None:
    """The whole body goes to a model server and to the Trainer."""
    alice.create("Mine")
    group = {"messages": [{"role": "user", "content": "a" * 3000}], "responses": RESPONSES}
    answer = alice.train(groups=[group] * 2000, background=True)
    assert answer.status_code == 202, answer.text
