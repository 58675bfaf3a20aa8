"""The exceptions of the object store, and how the errors of boto3 become them.

ObjectMissing    there is no such key
WriteConflict    the condition of a create or replace did not hold: nothing was written
Unavailable      storage cannot be reached, it refused, or the outcome of a write is unknown
StorageUnfit     the endpoint cannot be used at all (a message for the operator)
"""

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from registry.errors import Unavailable

UNREACHABLE = "storage cannot be reached"


class ObjectMissing(Exception):
    """No object has this key; `args[0]` is the key. It is never shown to a client."""


class WriteConflict(Exception):
    """Another writer was first; `args[0]` is the key. Nothing was written."""


class StorageUnfit(Exception):
    """The endpoint cannot store our data. The message tells the operator why."""


def status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(key: str = "") -> Iterator[None]:
    """Turn every boto3 error of the block into one of ours. The original error is its cause, for the log."""
    try:
        yield
    except ClientError as error:
        if status_of(error) == 404 and code_of(error) != "NoSuchBucket":
            raise ObjectMissing(key) from error
        if status_of(error) == 501:
            raise StorageUnfit(
                f"the endpoint does not implement {error.operation_name} as we use it"
            ) from error
        raise Unavailable(UNREACHABLE) from error
    except (BotoCoreError, Boto3Error) as error:
        raise Unavailable(UNREACHABLE) from error
