"""What a job made, and what a person does with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body, HTTPException, Query, Response
from fastapi.responses import FileResponse

from lib_finetune.api.routing import may_see_pictures, may_use, picture_file

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may, may_see = [may_use(guard)], [may_see_pictures(guard)]

    @router.post(
        "/jobs/{name}/more", summary="Train more steps, from the state that was kept last or at a step", dependencies=may, status_code=201
    )
    def more(name: str, steps: int = Body(...), step: int | None = Body(None), further: str = Body("")) -> dict[str, Any]:
        """``further``: how the rate runs, as `optimizer.further`."""
        return services().trainings.view(services().trainings.more(name, steps, step, further))

    @router.post("/jobs/{name}/pick", summary="Make the file of a step the result", dependencies=may)
    def pick(name: str, step: int = Body(...), delete_others: bool = Body(False)) -> dict[str, str]:
        return services().results.pick(name, step, delete_others=delete_others)

    @router.post("/jobs/{name}/select", summary="Load the checkpoint that the job made", dependencies=may, status_code=201)
    def select(name: str) -> dict[str, Any]:
        return services().results.select(name).status()

    @router.get("/jobs/{name}/verdict", summary="One change that answers 'too weak' or 'overdone'", dependencies=may)
    def feedback(name: str, answer: str = Query(..., alias="said")) -> dict[str, Any]:
        return dataclasses.asdict(services().results.feedback(name, answer))

    @router.get(
        "/jobs/{name}/files/{kind}",
        summary="The result itself: lora, checkpoint or embedding",
        dependencies=may,
        response_class=FileResponse,
    )
    def result_file(name: str, kind: str) -> Response:
        file = services().results.file(name, kind)
        if file is None:
            raise HTTPException(404, "The job has no such file.")
        return FileResponse(file, media_type="application/octet-stream", filename=file.name)

    @router.get("/jobs/{name}/previews/{step}/{file}", summary="A preview", dependencies=may_see, response_class=FileResponse)
    def preview(name: str, step: str, file: str, small: bool = False) -> Response:
        folder = services().jobs.known.find(name).folder / "previews"
        return picture_file(folder, Path(step) / file, services().thumbnails if small else None)
