"""What lies in Finetune's folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from lib_finetune.api.routing import may_use

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may = [may_use(guard)]

    @router.get("/storage", summary="What Finetune's folder holds, in bytes", dependencies=may)
    def storage() -> list[dict[str, Any]]:
        return services().storage.parts()

    @router.delete("/storage/{part}", summary="Empty a part of it", dependencies=may)
    def empty(part: str) -> dict[str, int]:
        return {"freed": services().storage.empty(part)}
