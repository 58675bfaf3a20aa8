"""The baseline: a FastAPI handler on Ray Serve that answers with bytes from a file and does nothing else.

It has as many replicas, places and CPUs as our ingress.
"""

from pathlib import Path

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from serve_app.settings import load_settings


class BareArguments(BaseModel):
    """The `args` of the application in a Serve config file. `directory` has the bodies of the answers."""

    model_config = ConfigDict(extra="forbid")

    config: str
    directory: str


def build_app(arguments: BareArguments) -> Application:
    settings = load_settings(arguments.config).ingress
    bare = serve.deployment(
        Bare,
        num_replicas=settings.num_replicas,
        max_ongoing_requests=settings.max_ongoing_requests,
        ray_actor_options={"num_cpus": settings.num_cpus},
    )
    return bare.bind(arguments.directory)


@serve.ingress()
class Bare:
    """The handler of GET /{name}: it answers with the bytes of the file `name`, read at the first request."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._bodies: dict[str, bytes] = {}

    async def __serve_build_asgi_app__(self) -> FastAPI:
        api = FastAPI()

        @api.get("/{name}")
        async def answer(name: str) -> Response:
            return Response(self._body(name), media_type="application/json")

        return api

    def _body(self, name: str) -> bytes:
        if name not in self._bodies:
            self._bodies[name] = (self._directory / name).read_bytes()
        return self._bodies[name]
