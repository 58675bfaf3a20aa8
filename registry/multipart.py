"""An object of the bucket whose size is known only at its end: S3's multipart upload.

    ObjectStore.begin_upload  ->  write, write, ...  ->  complete: the object appears, whole
                                                     ->  abort: nothing of it stays

Until `complete` nobody can read the object. The parts of an upload that nobody ends stay in the storage, and
no list of keys shows them. Therefore a caller notes the id of an upload before it writes the first part.
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry.errors import Unavailable
from registry.store_errors import UNREACHABLE, ObjectMissing, translated

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIN_PART_BYTES = 5 * 2**20
"""The least size of a part that S3 accepts, except of the last one."""


class MultipartUpload:
    """One upload. Its methods are called one after another, and each of them blocks.

    Raises (all): Unavailable.
    """

    def __init__(self, client: "S3Client", bucket: str, key: str, upload_id: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._parts: list[CompletedPartTypeDef] = []
        self.id = upload_id

    def write(self, part: bytes) -> None:
        """Add a part. The storage refuses it if it does not arrive as it was sent."""
        number = len(self._parts) + 1
        digest = hashlib.md5(part, usedforsecurity=False).digest()
        with self._known():
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self.id,
                PartNumber=number,
                Body=part,
                ContentMD5=base64.b64encode(digest).decode(),
            )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def complete(self) -> None:
        """Let the object appear. It has at least one part. After Unavailable, it may have appeared."""
        with self._known():
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self.id,
                MultipartUpload={"Parts": self._parts},
            )

    def abort(self) -> None:
        """Delete all parts. It is no error if the upload has ended already."""
        try:
            with translated(self._key):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self.id)
        except ObjectMissing:
            return

    @contextmanager
    def _known(self) -> Iterator[None]:
        """Turn the errors of the block into Unavailable, also that the storage does not know this upload."""
        try:
            with translated(self._key):
                yield
        except ObjectMissing as error:
            raise Unavailable(UNREACHABLE) from error
