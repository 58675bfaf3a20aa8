"""A training's request that passes through a process without being unpacked there.

    a task of Ray --bytes--> ingress: PackedRequest --call--> a replica: JobRequest

Thousands of pydantic objects hold Python's interpreter while they are pickled, or read from a pickle. In the
ingress that would stop the streams of all users. So it has only the bytes, and writes them into its calls.
"""

import pickle
from collections.abc import Callable
from typing import cast

from registry.records import JobRequest


class PackedRequest:
    """The pickle of a JobRequest. Pickling it and reading that gives the JobRequest."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __reduce__(self) -> tuple[Callable[[bytes], JobRequest], tuple[bytes]]:
        return pickle.loads, (self._body,)

    def as_argument(self) -> JobRequest:
        """Returns this object as an argument of a call, whose receiver gets a JobRequest."""
        return cast(JobRequest, self)


def packed(request: JobRequest) -> bytes:
    return pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
