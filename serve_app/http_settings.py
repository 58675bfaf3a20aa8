"""The address of the API, and the limits of HAProxy in front of it.

Ray starts HAProxy and does not know our settings. They reach HAProxy as environment variables, with the same
names by which an operator can set them.
"""

import os
from collections.abc import Mapping

from pydantic import Field

from registry.records import Record

PREFIX = "TIGER_HTTP__"
UPLOAD_PATH = "/openai/v1/files"
"""The path at which `POST` takes files. They may be larger than the bodies of other requests."""


class HttpSettings(Record):
    host: str = "127.0.0.1"
    port: int = Field(45678, ge=1, le=65535)
    max_connections: int = Field(
        10_000, ge=100, description="open connections; fewer if the system allows fewer open files"
    )
    max_connections_per_address: int = Field(
        4_000, ge=10, description="all clients behind a proxy or a gateway share one address"
    )
    request_timeout_s: int = Field(
        20, ge=1, description="time for a request's head, and again for the first 16 KB of its body"
    )
    inactivity_timeout_s: int = Field(
        30,
        ge=1,
        description="longest pause in a body that the client sends, or in an answer that it reads",
    )

    def as_environment(self) -> dict[str, str]:
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in self.model_dump().items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "HttpSettings":
        """Returns the settings of the environment. Missing values are the defaults.

        Raises: pydantic.ValidationError.
        """
        names = {name: f"{PREFIX}{name.upper()}" for name in cls.model_fields}
        return cls.model_validate(
            {name: environment[key] for name, key in names.items() if key in environment}
        )
