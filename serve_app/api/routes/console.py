"""`/` and `/console/...`: the pages for browsers. They need no key; what they show comes over the API."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from serve_app.api.console_files import ConsoleFile, console_files

CONSOLE = "/console/"
METHODS = ["GET", "HEAD"]
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # no script makes HTML or code of a text
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ASK_AGAIN = "no-cache"
KEEP = "public, max-age=31536000, immutable"

router = APIRouter()


def is_of_console(path: str) -> bool:
    """Tells whether a path belongs to these routes. They need no key."""
    return path in ("/", CONSOLE.rstrip("/")) or path.startswith(CONSOLE)


async def to_console(request: Request) -> Response:
    """Leads a browser to the console. The place has no host, so no request can choose one."""
    return RedirectResponse(CONSOLE, 307, SECURITY_HEADERS | {"Cache-Control": ASK_AGAIN})


async def console_file(request: Request) -> Response:
    """Answers with one file of the console."""
    path = request.path_params["path"]
    if not path:
        return _answer(request, console_files().index, ASK_AGAIN)
    file = console_files().files.get(path)
    if file is None:
        raise HTTPException(404)
    return _answer(request, file, KEEP)


def _answer(request: Request, file: ConsoleFile, cache_control: str) -> Response:
    headers = {
        **SECURITY_HEADERS,
        "Cache-Control": cache_control,
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if not _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.content, headers=headers, media_type=file.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(file.compressed, headers=headers, media_type=file.media_type)


def _takes_gzip(accepted: str) -> bool:
    """Tells whether a client takes gzip. A client that names it with `q=0` does not."""
    for part in accepted.lower().split(","):
        name, _, weight = part.replace(" ", "").partition(";q=")
        if name == "gzip":
            return weight.rstrip("0") not in ("", "0.") if weight else True
    return False


router.add_route("/", to_console, METHODS, include_in_schema=False)
router.add_route(CONSOLE.rstrip("/"), to_console, METHODS, include_in_schema=False)
router.add_route(CONSOLE + "{path:path}", console_file, METHODS, include_in_schema=False)
