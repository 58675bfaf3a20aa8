"""The copies of the files that users have uploaded.

    list of files -> the bytes of each file that it names

The bytes of a file are written before the list names it, and deleted after the list does not name it any
more. A file whose bytes are missing was therefore deleted meanwhile, or is damaged. In both cases the copied
list does not name it.
"""

from pydantic import ValidationError

from registry.backup.copies import Copies
from registry.backup.errors import BackupError
from registry.backup.place import LARGE_OBJECTS_THREADS, in_parallel
from registry.file_lists import LIST, PREFIX, content_key
from registry.file_records import FileRecord, UserFiles
from registry.records import AdapterFile
from registry.store import ObjectMissing, ObjectStore


class FileCopies:
    def __init__(self, source: ObjectStore, copies: Copies) -> None:
        self._source = source
        self._copies = copies

    def copy_all(self) -> None:
        """Copy the files of all users."""
        lists = [key for key in self._source.list(PREFIX) if key.endswith(f"/{LIST}")]
        in_parallel(self._copy_user, lists, LARGE_OBJECTS_THREADS)

    def _copy_user(self, key: str) -> None:
        user = key.removeprefix(PREFIX).removesuffix(f"/{LIST}")
        kept = tuple(file for file in self._read(key).files if self._copy_file(user, file))
        self._copies.put(key, UserFiles(files=kept).model_dump_json().encode())

    def _copy_file(self, user: str, file: FileRecord) -> bool:
        """Copy the bytes of a file; returns False if they are not those of its record."""
        key = content_key(user, file.id)
        content = AdapterFile(name=file.id, key=key, size_bytes=file.size_bytes, sha256=file.sha256)
        try:
            self._copies.take_file(content)
        except ObjectMissing:
            if file in self._read(f"{PREFIX}{user}/{LIST}").files:
                self._copies.note_damage(key)
        return self._copies.has(key)

    def _read(self, key: str) -> UserFiles:
        try:
            return UserFiles.model_validate_json(self._source.get(key).body)
        except (ObjectMissing, ValidationError) as error:
            raise BackupError(f"{key} cannot be read") from error
