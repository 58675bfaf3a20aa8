"""The settings of the bucket. Credentials come from the usual AWS places and are never a setting."""

from pydantic import Field

from registry.records import Record


class StorageSettings(Record):
    """An S3-compatible endpoint that honours conditional writes, and a bucket there."""

    endpoint_url: str | None = Field(None, description="None: AWS itself")
    region: str = "us-east-1"
    bucket: str = "tiger"
    prefix: str = Field("", description="put before every key, without a leading slash")
    connect_timeout_s: float = Field(5, gt=0)
    read_timeout_s: float = Field(30, ge=1)
