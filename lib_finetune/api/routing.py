"""What all resources share: typed errors as answers, who may ask, and images as files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException

from lib_finetune.access import of_this_site
from lib_finetune.config.schema import schema
from lib_finetune.errors import FinetuneError, InputError, Problem

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.thumbnails import Thumbnails

SETTINGS_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema()}}}}
"""What takes settings says so in ``/docs``; they are checked by the settings tree itself, whose messages name the field."""
_READING = ("GET", "HEAD", "OPTIONS")
_BODIES = ("application/json", "multipart/form-data")
_UNREADABLE_BODY = "The request's body is no JSON that can be read."
KEEP = {"Cache-Control": "private, max-age=86400"}
WRONG_INPUT: dict[int | str, dict[str, Any]] = {
    401: {"description": "not signed in"},
    422: {"description": "wrong input: {detail: [{field, message}]}"},
}


class Route(APIRoute):
    """A route whose typed errors become answers: 422 for wrong input, 409 for what cannot be done now."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See fastapi."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except StarletteHTTPException as error:
                if error.status_code == 400:  # fastapi's answer to a body that its reader cannot take: depth, digits, bytes
                    return _problems(422, [{"field": "", "message": _UNREADABLE_BODY}])
                raise
            except RequestValidationError as error:
                return _problems(
                    422, [{"field": ".".join(map(str, fault["loc"][1:])), "message": fault["msg"]} for fault in error.errors()]
                )
            except InputError as error:
                return _problems(422, [dataclasses.asdict(problem) for problem in error.problems])
            except FinetuneError as error:
                return _problems(409, [{"field": "", "message": str(error)}])

        return answer


def _problems(status: int, problems: list[dict[str, str]]) -> JSONResponse:
    # Halves of characters, which a request may hold, have no bytes to be answered with.
    whole = [{key: text.encode("utf-8", "backslashreplace").decode("utf-8") for key, text in problem.items()} for problem in problems]
    return JSONResponse({"detail": whole}, status_code=status)


def refuse_other_sites(request: Request) -> None:
    """A page of another site neither reads nor changes anything, and what changes something is JSON or a form with files.

    Browsers send plain forms and texts to other sites without asking; JSON they send only after leave, which nobody gets here.

    Raises:
        HTTPException: 403; another site's page asks.
        InputError: the body is of another kind.
    """
    if not of_this_site(request.headers):
        raise HTTPException(403, "Asked by a page of another site.")
    if request.method in _READING or not _has_body(request):
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _BODIES:
        raise InputError([Problem("", "Send JSON (Content-Type: application/json), or files as multipart/form-data.")])


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def may_use(guard: Guard) -> Any:
    """A dependency: the request comes from somebody who may use the routes."""

    def check(request: Request) -> None:
        refuse_other_sites(request)
        if not guard.allows(request.headers.get("authorization"), request.cookies):
            raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Basic"} if guard.accounts else None)

    return Depends(check)


def may_see_pictures(guard: Guard) -> Any:
    """A dependency: the request may see images, by the page's key too."""

    def check(request: Request, key: str = "") -> None:
        if not guard.opens(key) and not guard.allows(request.headers.get("authorization"), request.cookies):
            raise HTTPException(401, "Sign in first.")

    return Depends(check)


def chosen(known: dict[str, Callable[[], Any]], action: str) -> Callable[[], Any]:
    """The action of this name, or an answer 404."""
    if action not in known:
        raise HTTPException(404, f"There is no {action!r}: {', '.join(known)}.")
    return known[action]


def picture_file(folder: Path, inside: Path, thumbnails: Thumbnails | None = None) -> Response:
    """A PNG below a folder; whatever else is asked for is not there.

    Args:
        thumbnails: makes a small JPEG of it; None for the file itself.
    """
    path = (folder / inside).resolve()
    if folder.resolve() not in path.parents or path.suffix != ".png" or not path.is_file():
        raise HTTPException(404, "There is no such image.")
    if thumbnails is not None:
        return Response(thumbnails.of(path), media_type="image/jpeg", headers=KEEP)
    return FileResponse(path, media_type="image/png", headers=KEEP)
