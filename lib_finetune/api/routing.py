"""What all resources share: typed errors as answers, who may ask, and pictures as files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import APIRoute

from lib_finetune.config.schema import schema
from lib_finetune.errors import FinetuneError, InputError

if TYPE_CHECKING:
    from lib_finetune.access import Guard

SETTINGS_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema()}}}}
"""What takes settings says so in ``/docs``; they are checked by the settings tree itself, whose messages name the field."""
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
            except RequestValidationError as error:
                return _problems(422, [{"field": ".".join(map(str, one["loc"][1:])), "message": one["msg"]} for one in error.errors()])
            except InputError as error:
                return _problems(422, [dataclasses.asdict(problem) for problem in error.problems])
            except FinetuneError as error:
                return _problems(409, [{"field": "", "message": str(error)}])

        return answer


def _problems(status: int, found: list[dict[str, str]]) -> JSONResponse:
    return JSONResponse({"detail": found}, status_code=status)


def may_use(guard: Guard) -> Any:
    """A dependency: the request comes from somebody who may use the routes."""

    def check(request: Request) -> None:
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise HTTPException(403, "Asked by a page of another site.")
        if not guard.allows(request.headers.get("authorization"), request.cookies):
            raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Basic"} if guard.accounts else None)

    return Depends(check)


def may_see_pictures(guard: Guard) -> Any:
    """A dependency: the request may see pictures, by the page's key too."""

    def check(request: Request, key: str = "") -> None:
        if not guard.opens(key) and not guard.allows(request.headers.get("authorization"), request.cookies):
            raise HTTPException(401, "Sign in first.")

    return Depends(check)


def chosen(known: dict[str, Callable[[], Any]], action: str) -> Callable[[], Any]:
    """The action of this name, or an answer 404."""
    if action not in known:
        raise HTTPException(404, f"There is no {action!r}: {', '.join(known)}.")
    return known[action]


def picture_file(folder: Path, inside: Path) -> Response:
    """A PNG below a folder; whatever else is asked for is not there."""
    path = (folder / inside).resolve()
    if folder.resolve() not in path.parents or path.suffix != ".png" or not path.is_file():
        raise HTTPException(404, "There is no such picture.")
    return FileResponse(path, media_type="image/png", headers=KEEP)
