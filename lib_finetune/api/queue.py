"""The queue, and runs that can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from lib_finetune.api.routing import chosen, may_use

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may = [may_use(guard)]

    @router.post("/queue/{action}", summary="hold: begin no further job; go: begin again", dependencies=may)
    def queue(action: str) -> dict[str, bool]:
        chosen({"hold": services().jobs.hold, "go": services().jobs.go}, action)()
        return {"held": services().jobs.held}

    @router.get("/unfinished", summary="Runs that can be resumed", dependencies=may)
    def unfinished() -> list[str]:
        return services().trainings.unfinished()

    @router.post("/unfinished/{name}", summary="Resume an unfinished run", dependencies=may)
    def go_on(name: str) -> dict[str, Any]:
        return services().trainings.view(services().trainings.resume(name))
