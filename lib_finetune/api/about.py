"""Version, device and the schema of the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body

from lib_finetune.api.routing import SETTINGS_BODY, may_use
from lib_finetune.app.about import about as about_host
from lib_finetune.config.schema import schema

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may = [may_use(guard)]

    @router.get("/about", summary="Version, checkpoint, device, memory", dependencies=may)
    def about() -> dict[str, Any]:
        return about_host(services().host, services().jobs.lost)

    @router.get("/schema", summary="JSON Schema of the settings", dependencies=may)
    def settings_schema() -> dict[str, Any]:
        return schema()

    @router.post("/check", summary="Look for everything that is wrong with settings", dependencies=may, openapi_extra=SETTINGS_BODY)
    def check(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        warnings = services().jobs.check(services().settings_files.from_values(settings))
        return {"ok": True, "warnings": warnings} if warnings else {"ok": True}
