"""Trainings that are compared, grids of images, and background tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body, Response
from fastapi.responses import FileResponse

from lib_finetune.api.routing import SETTINGS_BODY, may_see_pictures, may_use, picture_file

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may = [may_use(guard)]

    @router.post("/sweep", summary="A job for each value of one setting", dependencies=may, status_code=201)
    def sweep(settings: dict[str, Any] = Body(...), path: str = Body(...), values: list[str] = Body(...)) -> list[dict[str, Any]]:
        return [
            services().trainings.view(job)
            for job in services().trainings.sweep(services().settings_files.from_values(settings), path, values)
        ]

    @router.post(
        "/compare", summary="The same images through the three methods", dependencies=may, openapi_extra=SETTINGS_BODY, status_code=201
    )
    def compare(settings: dict[str, Any] = Body(...)) -> list[dict[str, Any]]:
        return [services().trainings.view(job) for job in services().trainings.compare(services().settings_files.from_values(settings))]

    @router.post(
        "/groups/{group}/sheet", summary="One sheet of the results of jobs that belong together", dependencies=may, status_code=201
    )
    def comparison_grid_of_group(group: str, prompts: list[str] = Body([], embed=True)) -> dict[str, Any]:
        return services().comparison_grids.of_group(group, prompts).status()

    @router.get("/errands/{name}", summary="A background task: a comparison grid, a trial, captions or a LoRA", dependencies=may)
    def task(name: str) -> dict[str, Any]:
        return services().jobs.tasks.find(name).status()

    @router.post("/errands/{name}/stop", summary="Stop a background task", dependencies=may)
    def stop_task(name: str) -> dict[str, Any]:
        services().jobs.tasks.find(name).stop()
        return services().jobs.tasks.find(name).status()

    @router.post("/jobs/{name}/sheet", summary="The job's files at several weights, beside the base", dependencies=may, status_code=201)
    def comparison_grid(name: str, prompts: list[str] = Body([]), weights: list[float] = Body([0.6, 0.8, 1.0])) -> Any:
        return services().comparison_grids.of_job(name, prompts, weights).status()

    @router.post(
        "/word",
        summary="Draw what the loaded model takes the trigger word for",
        dependencies=may,
        openapi_extra=SETTINGS_BODY,
        status_code=201,
    )
    def word(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return services().comparison_grids.of_trigger_word(services().settings_files.from_values(settings)).status()

    _add_routes_of_grids(router, services, guard)


def _add_routes_of_grids(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    may, may_see = [may_use(guard)], [may_see_pictures(guard)]

    @router.post("/sheets", summary="Results and snapshots × weights × prompts × seeds", dependencies=may, status_code=201)
    def chosen(
        chosen: list[str] = Body(..., description="id of a job:step"),
        weights: list[float] = Body([0.6, 0.8, 1.0]),
        prompts: list[str] = Body([]),
        seeds: list[int] = Body([]),
        base: bool = Body(True),
    ) -> dict[str, Any]:
        return services().comparison_grids.of_choices(chosen, weights, prompts, seeds, base=base).status()

    @router.get("/sheet-choices", summary="Runs with the steps of their files, of which a grid can be made", dependencies=may)
    def choices() -> list[dict[str, Any]]:
        return services().comparison_grids.offered()

    @router.get("/sheets/{file}/settings", summary="What a comparison grid was made with", dependencies=may)
    def settings_of_grid(file: str) -> dict[str, Any]:
        return services().comparison_grids.settings(file)

    @router.get("/sheets", summary="Comparison grids that were made", dependencies=may)
    def comparison_grids() -> list[str]:
        return services().comparison_grids.names()

    @router.get("/sheets/{file}", summary="A comparison grid", dependencies=may_see, response_class=FileResponse)
    def comparison_grid_file(file: str, small: bool = False) -> Response:
        return picture_file(services().host.paths.data / "sheets", Path(file), services().thumbnails if small else None)

    @router.delete("/sheets/{file}", summary="Delete a comparison grid", dependencies=may)
    def delete(file: str) -> dict[str, bool]:
        services().comparison_grids.delete(file)
        return {"ok": True}
