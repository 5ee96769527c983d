"""Masks painted on training images."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from lib_finetune.api.routing import may_see_pictures
from lib_finetune.api.uploads import FILES_BODY, may_send, sent_files
from lib_finetune.app import painted_masks
from lib_finetune.errors import InputError, Problem

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services

_NOT_KEPT = {"Cache-Control": "no-store"}


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may_see, may_change = [may_see_pictures(guard)], [may_send(guard)]

    @router.get("/masks/{token}", summary="An image's mask: its file, and where a painted one is saved", dependencies=may_see)
    def facts(token: str) -> dict[str, Any]:
        return dataclasses.asdict(services().masks.facts(token))

    @router.get(
        "/masks/{token}/image", summary="The mask as it counts, white where it shows", dependencies=may_see, response_class=Response
    )
    def image(token: str) -> Response:
        content = io.BytesIO()
        services().masks.image(token).save(content, "PNG")
        return Response(content.getvalue(), media_type="image/png", headers=_NOT_KEPT)

    @router.post(
        "/masks/{token}",
        summary="Save a painted mask beside its image; a file that lies there is overwritten only where its content is named",
        description=painted_masks.LIMITS,
        dependencies=may_change,
        openapi_extra=FILES_BODY,
        status_code=201,
    )
    async def save(request: Request, token: str, replaces: str = Query("")) -> dict[str, str]:
        async with sent_files(request, 1, painted_masks.BYTES, painted_masks.LIMITS) as files:
            if not files:
                raise InputError([Problem("mask", painted_masks.LIMITS)])
            painted = await run_in_threadpool(files[0][1].read, painted_masks.BYTES + 1)
            if len(painted) > painted_masks.BYTES:
                raise InputError([Problem("mask", painted_masks.LIMITS)])
            return {"file": await run_in_threadpool(services().masks.save, token, painted, replaces)}

    @router.delete("/masks/{token}", summary="Take an image's mask away; it stays beside it as .bak", dependencies=may_change)
    def take_away(token: str, replaces: str = Query(...)) -> dict[str, str]:
        services().masks.take_away(token, replaces)
        return {"file": ""}
