"""Makes boto3 clients: path-style, signed, with our time-outs."""

import base64
import configparser
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

from registry.settings import StorageSettings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MAX_CONNECTIONS = 64
PLAIN_ATTEMPTS = 3
DIGEST_CHUNK_BYTES = 2**20
LOADER = Loader()
"""Loads the descriptions of AWS's services once: loading them takes most of the time of making a client."""


class ClientFactory(Protocol):
    """A function that makes a client. `max_attempts` is 1 if only the caller may repeat a request."""

    def __call__(self, settings: StorageSettings, *, max_attempts: int) -> "S3Client": ...


def build_client(
    settings: StorageSettings, credentials_path: Path | None = None, *, max_attempts: int = PLAIN_ATTEMPTS
) -> "S3Client":
    """A client with the usual AWS credentials, or only with those of a credentials file."""
    keys = read_credentials(credentials_path) if credentials_path is not None else {}
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        max_pool_connections=MAX_CONNECTIONS,
        # The newer default checksums travel in a trailer that not every endpoint understands.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = _new_session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=keys.get("aws_access_key_id"),
        aws_secret_access_key=keys.get("aws_secret_access_key"),
        config=config,
    )
    client.meta.events.register("before-parameter-build.s3.PutObject", _add_digest)
    return client


def read_credentials(path: Path) -> dict[str, str]:
    """The keys of the default profile in a credentials file of AWS."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text())
    return dict(parser["default"])


def _new_session() -> boto3.session.Session:
    """A session of its own, because sessions keep credentials and are not thread-safe."""
    session = botocore.session.Session()
    session.register_component("data_loader", LOADER)
    return boto3.session.Session(botocore_session=session)


def _add_digest(params: dict[str, Any], **_: Any) -> None:
    """Add the digest of the whole body, so that an endpoint refuses a body that does not arrive completely.

    Without it, SeaweedFS stores an object of 0 bytes if the sender dies between the headers and the body.
    """
    body, digest = params["Body"], hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes):
        digest.update(body)
    else:
        start = body.tell()
        while chunk := body.read(DIGEST_CHUNK_BYTES):
            digest.update(chunk)
        body.seek(start)
    params["ContentMD5"] = base64.b64encode(digest.digest()).decode()


def create_bucket_arguments(settings: StorageSettings) -> dict[str, Any]:
    """The arguments that create the bucket. AWS needs the region, except in its first one, us-east-1."""
    if settings.endpoint_url is not None or settings.region == "us-east-1":
        return {}
    return {"CreateBucketConfiguration": {"LocationConstraint": settings.region}}
