"""Where the API listens, and what HAProxy in front of it lets a client do.

HAProxy is started by Ray, which knows nothing of our settings: they reach it as variables of its environment,
under the names by which an operator may set them too.
"""

import os
from collections.abc import Mapping

from pydantic import Field

from registry.records import Record

PREFIX = "TIGER_HTTP__"


class HttpSettings(Record):
    host: str = "127.0.0.1"
    port: int = Field(45678, ge=1, le=65535)
    max_connections: int = Field(
        10_000, ge=100, description="at once; fewer where the system allows fewer open files"
    )
    max_connections_per_address: int = Field(
        4_000, ge=10, description="behind a proxy or a network's gateway all clients share one address"
    )
    request_timeout_s: int = Field(
        20, ge=1, description="for a request's head to arrive whole, and then for the first 16 KB of its body"
    )
    inactivity_timeout_s: int = Field(
        30,
        ge=1,
        description="without a byte of a body that is being sent, or of an answer that is being read",
    )

    def as_environment(self) -> dict[str, str]:
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in self.model_dump().items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "HttpSettings":
        """What the environment does not say is the default.

        Raises: pydantic.ValidationError.
        """
        names = {name: f"{PREFIX}{name.upper()}" for name in cls.model_fields}
        return cls.model_validate(
            {name: environment[key] for name, key in names.items() if key in environment}
        )
