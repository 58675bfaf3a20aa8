"""`/openai/v1/files`: the files with which models are taught, for clients of OpenAI's API."""

import asyncio
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse

from registry.audit import Action
from registry.errors import NO_SUCH_FILE, FileNotFound, InvalidRequest, QuotaExceeded
from registry.file_lists import FileLists
from registry.file_records import FileRecord
from serve_app.api.answer_examples import DELETED_FILE, FILE_CONTENT, FILE_OBJECT
from serve_app.api.backends import (
    AuditDependency,
    Backends,
    BackendsDependency,
    CallerDependency,
    UserDependency,
)
from serve_app.api.file_content import FileContent
from serve_app.api.openapi import BODY, errors, one, success
from serve_app.api.streamed_body import announced_bytes
from serve_app.http_settings import UPLOAD_PATH
from serve_app.wire.base import Ref
from serve_app.wire.files import UPLOAD_FORM, DeletedFile, FileList, FileObject

router = APIRouter(prefix=UPLOAD_PATH, tags=["openai"])

FileId = Annotated[str, Path(description="the id of one of your files")]
ONE_FILE = success(FILE_OBJECT, "the file") | errors(FileNotFound)
FIRST_AND_LAST = {"first_id": FILE_OBJECT["id"], "last_id": FILE_OBJECT["id"]}
LISTING = {"object": "list", "data": [FILE_OBJECT], **FIRST_AND_LAST, "has_more": False}
MAX_PAGE = 10_000


@router.post(
    "",
    response_model=FileObject,
    responses=success(FILE_OBJECT, "the file") | errors(*BODY, QuotaExceeded, openai=True),
    openapi_extra={"requestBody": UPLOAD_FORM},
)
async def create_file(
    request: Request, caller: CallerDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Upload a file of conversations or preferences, with the purpose `fine-tune`.

    Each line is a JSON object in OpenAI's form. Lines that cannot be used make the `status` of the file
    `error`; `status_details` has their numbers.
    """
    with backends.uploads.place_of(caller.user):
        received = await backends.uploads.receive(
            caller.user,
            request.headers.get("content-type"),
            announced_bytes(request.scope),
            request.stream(),
        )
        await backends.uploads.keep(
            caller.user, received, audit, lambda: backends.authenticator.recheck(caller.key_hash)
        )
    return FileObject.of(received.record)


@router.get(
    "",
    response_model=FileList,
    responses=success(LISTING, "a page of files") | errors(FileNotFound, InvalidRequest, openai=True),
)
async def list_files(
    user: UserDependency,
    backends: BackendsDependency,
    purpose: Annotated[Ref | None, Query(description="only files with this purpose")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="number of files on a page")] = MAX_PAGE,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc`: the newest files first")] = "desc",
    after: Annotated[Ref | None, Query(description="the id of the last file on the previous page")] = None,
) -> Any:
    """List your files."""
    files = (await asyncio.to_thread(FileLists(backends.store).load, user)).files
    ordered = files if order == "asc" else files[::-1]
    if after is not None:
        ordered = ordered[_index(ordered, after) + 1 :]
    wanted = [file for file in ordered if purpose in (None, file.purpose)]
    return FileList.of(wanted[:limit], has_more=len(wanted) > limit)


@router.get("/{file_id}", response_model=FileObject, responses=ONE_FILE)
async def get_file(file_id: FileId, user: UserDependency, backends: BackendsDependency) -> Any:
    """Get one file, without its content."""
    return FileObject.of(await _find(backends, user, file_id))


@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses=one(FILE_CONTENT, "the bytes of the file") | errors(FileNotFound),
)
async def file_content(file_id: FileId, user: UserDependency, backends: BackendsDependency) -> Any:
    """Download the content of a file."""
    with ExitStack() as held:
        held.enter_context(backends.downloads.held_by(user))(1)
        record = await _find(backends, user, file_id)
        return FileContent(backends.store, user, record, held.pop_all())


@router.delete(
    "/{file_id}",
    response_model=DeletedFile,
    responses=success(DELETED_FILE, "the file is deleted") | errors(FileNotFound),
)
async def delete_file(
    file_id: FileId, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Delete a file. Trainings that were accepted with it have a copy of their own."""
    record = await _find(backends, user, file_id)
    async with audit.recorded(Action.DELETE_FILE, file=record.id):
        await backends.catalog.delete_file(user, record.id)
    return DeletedFile(id=record.id)


async def _find(backends: Backends, user: str, file_id: str) -> FileRecord:
    """Finds a file. Raises: FileNotFound: unknown, or another user's."""
    return await asyncio.to_thread(FileLists(backends.store).find, user, file_id)


def _index(files: tuple[FileRecord, ...], file_id: str) -> int:
    """Returns the place of a file in a list. Raises: FileNotFound."""
    for index, file in enumerate(files):
        if file.id == file_id:
            return index
    raise FileNotFound(NO_SUCH_FILE, "after")
