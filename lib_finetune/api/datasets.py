"""Training images and their captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from lib_finetune.api.routing import KEEP, SETTINGS_BODY, may_see_pictures, may_use
from lib_finetune.api.uploads import FILES_BODY, may_send, sent_files
from lib_finetune.app import datasets

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may, may_see = [may_use(guard)], [may_see_pictures(guard)]

    @router.post(
        "/pictures",
        summary="Send images and captions; answers the folder to train from, and what was left out",
        description=datasets.LIMITS,
        dependencies=[may_send(guard)],
        openapi_extra=FILES_BODY,
        status_code=201,
    )
    async def send(request: Request, folder: str = Query(""), into: str = Query("")) -> dict[str, Any]:
        async with sent_files(request, datasets.FILES, datasets.DROP_BYTES, datasets.LIMITS) as files:
            place = await run_in_threadpool(services().datasets.keep, files, folder, into)
            return {"folder": str(place), "left_out": services().datasets.left_out([name for name, _ in files])}

    @router.post("/dataset", summary="The images as the model will see them", dependencies=may, openapi_extra=SETTINGS_BODY)
    def dataset(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return services().datasets.view(services().settings_files.from_values(settings))

    @router.put("/captions/{token}", summary="Write an image's caption; an empty one takes it away", dependencies=may)
    def caption(token: str, text: str = Body(..., embed=True)) -> dict[str, str | None]:
        return {"file": services().datasets.caption(token, text)}

    @router.post("/captions/edit", summary="Add, replace or remove tags or words in captions", dependencies=may)
    def edit(
        settings: dict[str, Any] = Body(...),
        how: str = Body(...),
        text: str = Body(...),
        instead: str = Body(""),
        chosen: list[str] = Body([]),
    ) -> dict[str, int]:
        """``how``: front, behind, replace or remove; ``chosen``: tokens of images, none for all."""
        return services().datasets.edit_captions(services().settings_files.from_values(settings), how, text, instead, chosen)

    @router.post("/captions/undo", summary="Take the last change of captions back", dependencies=may)
    def undo() -> dict[str, int]:
        return {"files": services().datasets.undo_captions()}

    @router.get("/captioners", summary="What can write captions here", dependencies=may)
    def captioners() -> list[str]:
        return services().datasets.captioners()

    @router.post("/captions", summary="Write a caption for each image that has none", dependencies=may, status_code=201)
    def write_captions(settings: dict[str, Any] = Body(...), captioner: str = Body(...)) -> dict[str, Any]:
        return services().datasets.write_captions(services().settings_files.from_values(settings), captioner).status()

    @router.get(
        "/thumbnails/{token}", summary="An image of the dataset, small, its crop framed", dependencies=may_see, response_class=Response
    )
    def thumbnail(token: str, large: bool = False, bare: bool = False) -> Response:
        return Response(services().datasets.thumbnail(token, large=large, bare=bare), media_type="image/jpeg", headers=KEEP)
