"""What the page fetches by its key: covers, curves, results to keep, and the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse, PlainTextResponse

from lib_finetune.api.routing import KEEP, may_see_pictures
from lib_finetune.app.thumbnails import cover as cover_of

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may_see = [may_see_pictures(guard)]

    @router.get("/jobs/{name}/cover", summary="A small image that stands for the job", dependencies=may_see, response_class=Response)
    def cover(name: str) -> Response:
        path = cover_of(services().jobs.known.find(name))
        if path is None:
            raise HTTPException(404, "The job has no image yet.")
        return Response(services().thumbnails.of(path), media_type="image/jpeg", headers=KEEP)

    @router.get("/jobs/{name}/curves", summary="Curves and log of a job after a step and a line, for the page", dependencies=may_see)
    def curves(name: str, step: int = -1, line: int = 0) -> dict[str, Any]:
        return services().trainings.curves(name, step, line)

    @router.get("/jobs/{name}/download/{kind}", summary="As the file of this kind, for the page", dependencies=may_see)
    def download(name: str, kind: str) -> Response:
        file = services().results.file(name, kind)
        if file is None:
            raise HTTPException(404, "The job has no such file.")
        return FileResponse(file, media_type="application/octet-stream", filename=file.name)

    @router.get("/report", summary="The report for an issue, without private paths", dependencies=may_see, response_class=PlainTextResponse)
    def report(job: str = "") -> PlainTextResponse:
        return PlainTextResponse(services().reports.text(job))
