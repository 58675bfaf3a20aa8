"""The models of a user in the memory of two ingress replicas, over real HTTP."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.serve.conftest import LIMITS_OF_TWO
from tests.support.account import Account
from tests.support.service import Service

NUM_CHANGES = 30
NUM_READERS = 4

LIMITS = LIMITS_OF_TWO
NUM_INGRESSES = 2


def listed(account: Account) -> dict[str, str]:
    """The descriptions of the private models by id, over a new connection, so that any replica may answer."""
    headers = {"Authorization": f"Bearer {account.key}", "Connection": "close"}
    models = account.http.get("/v1/models", headers=headers).raise_for_status().json()
    return {model["id"]: model["description"] for model in models if not model["read_only"]}


def described(account: Account, description: str) -> httpx.Response:
    return account.http.patch("/v1/models/mine", json={"description": description}).raise_for_status()


def test_change_is_seen_by_every_replica_when_it_is_answered(service: Service, alice: Account) -> None:
    alice.create()
    for number in range(NUM_CHANGES):
        assert listed(alice)
        described(alice, str(number))
        assert [listed(alice) for _ in range(6)] == [{"mine": str(number)}] * 6
    assert alice.http.delete("/v1/models/mine").status_code == 200
    assert [listed(alice) for _ in range(6)] == [{}] * 6
    assert alice.generate(model="mine").status_code == 404


def test_no_listing_goes_back_while_models_change(service: Service, alice: Account, bob: Account) -> None:
    """The models of another user stay as they are meanwhile."""
    alice.create()
    bob.create(description="of bob")
    last_answered = [-1]

    def read() -> int:
        newest, num = -1, 0
        while last_answered[0] < NUM_CHANGES - 1:
            at_least = max(newest, last_answered[0])
            newest = int(listed(alice)["mine"])
            assert newest >= at_least
            assert listed(bob) == {"mine": "of bob"}
            num += 1
        return num

    described(alice, "-1")
    with ThreadPoolExecutor(NUM_READERS) as pool:
        readers = [pool.submit(read) for _ in range(NUM_READERS)]
        try:
            for number in range(NUM_CHANGES):
                described(alice, str(number))
                last_answered[0] = number
        finally:
            last_answered[0] = NUM_CHANGES
        assert all(reader.result() > 1 for reader in readers)
