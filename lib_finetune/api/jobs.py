"""Jobs: queued, watched, controlled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body

from lib_finetune.api.routing import SETTINGS_BODY, chosen, may_use
from lib_finetune.config.codec import to_dict
from lib_finetune.jobs import status

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may = [may_use(guard)]

    @router.get(
        "/jobs",
        summary="All jobs, the queue, background tasks; with ?since=, what of it has changed since the answer of that cursor",
        dependencies=may,
    )
    def jobs(since: str | None = None) -> dict[str, Any]:
        """`?since=` answers all, with a "cursor" to ask with next time; see `Changes.since`."""
        return services().trainings.overview() if since is None else services().trainings.changes.since(since)

    @router.post("/jobs", summary="Queue a training", dependencies=may, openapi_extra=SETTINGS_BODY, status_code=201)
    def submit(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return services().trainings.view(services().jobs.submit(services().settings_files.from_values(settings)))

    @router.get("/jobs/{name}", summary="A job", dependencies=may)
    def job(name: str) -> dict[str, Any]:
        return {**services().trainings.view(services().jobs.known.find(name)), "states": services().trainings.kept_states(name)}

    @router.get("/jobs/{name}/events", summary="What was said and measured since", dependencies=may)
    def events(name: str, line: int = 0, step: int = 0) -> dict[str, Any]:
        return status.since(services().jobs.known.find(name), line, step)

    @router.get("/jobs/{name}/settings", summary="A job's settings", dependencies=may)
    def settings_of_job(name: str) -> dict[str, Any]:
        return to_dict(services().jobs.known.find_whole(name).settings)

    @router.put("/jobs/{name}/settings", summary="Other settings for a job that waits", dependencies=may, openapi_extra=SETTINGS_BODY)
    def edit(name: str, settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        services().jobs.edit(name, services().settings_files.from_values(settings))
        return services().trainings.view(services().jobs.known.find(name))

    @router.delete("/jobs/{name}", summary="Remove a waiting job from the queue, or delete what an ended job left", dependencies=may)
    def remove(name: str) -> dict[str, bool]:
        job = services().jobs.known.find(name)
        (services().jobs.forget if job.ended else services().jobs.cancel)(name)
        return {"ok": True}

    @router.post("/jobs/{name}/stop", summary="End after this step; keep: write the file of what was trained", dependencies=may)
    def stop(name: str, keep: bool = Body(True, embed=True)) -> dict[str, Any]:
        job = services().jobs.known.find(name)
        job.control.stop(keep=keep)
        return services().trainings.view(job)

    @router.post("/jobs/{name}/move", summary="Before another waiting job, or last", dependencies=may)
    def move(name: str, before: str | None = Body(None, embed=True)) -> dict[str, Any]:
        services().jobs.move(name, before)
        return services().trainings.overview()

    @router.post("/jobs/{name}/clone", summary="A new job like this one, with changes by dotted path", dependencies=may, status_code=201)
    def clone(name: str, changes: dict[str, str] = Body(..., embed=True)) -> dict[str, Any]:
        return services().trainings.view(services().trainings.clone(name, changes))

    @router.post(
        "/jobs/{name}/{action}",
        summary="pause, resume, preview (now), save (now), load (its checkpoint, when it waits for it)",
        dependencies=may,
    )
    def act(name: str, action: str) -> dict[str, Any]:
        job = services().jobs.known.find(name)
        known: dict[str, Callable[[], None]] = {
            "pause": job.control.pause,
            "resume": job.control.resume,
            "preview": partial(job.press, "preview"),
            "save": partial(job.press, "save"),
            "load": job.control.load_checkpoint,
        }
        chosen(known, action)()
        return services().trainings.view(job)
