"""Another application on the same Ray, with an ingress of its own that knows nothing of ours."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Request
from ray import serve

from tests.support.service import Service
from tests.support.waiting import wait_until

NAME = "neighbour"
PREFIX = "/neighbour"
api = FastAPI()


@api.post("/length")
async def length(request: Request) -> int:
    return len(await request.body())


@serve.ingress(api)
class Neighbour:
    """The ingress of the other application."""


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    deployment = serve.deployment(Neighbour, ray_actor_options={"num_cpus": 0})
    serve.run(deployment.bind(), name=NAME, route_prefix=PREFIX)
    yield f"{service.url}{PREFIX}/length"
    serve.delete(NAME)


def test_application_of_others_gets_the_bodies_of_its_requests(url: str) -> None:
    with httpx.Client(trust_env=False, timeout=10) as client:
        wait_until(lambda: client.post(url).status_code == 200, 20)
        assert client.post(url, content=b"x" * 1000).json() == 1000
