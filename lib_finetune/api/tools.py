"""LoRA files from others: extracted from a checkpoint, or resized."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body

from lib_finetune.api.routing import may_use

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may = [may_use(guard)]

    @router.get("/tools", summary="The files that the tools can take, by kind", dependencies=may)
    def choices() -> dict[str, list[str]]:
        return services().lora_tools.choices()

    @router.post("/tools/extract", summary="Write a checkpoint's difference from its base as a LoRA", dependencies=may, status_code=201)
    def extract(
        checkpoint: str = Body(...),
        base: str = Body(""),
        name: str = Body(""),
        rank: int | None = Body(None),
        share: float | None = Body(None),
        conv: bool = Body(False),
        precision: str = Body("fp16"),
    ) -> dict[str, Any]:
        """``rank``: at most; ``share``: of the change kept, 0 to 1; ``conv``: convolutions outside of attention too."""
        return services().lora_tools.extract(checkpoint, base, name, rank, share, conv=conv, precision=precision).status()

    @router.post("/tools/resize", summary="Write a LoRA at another rank", dependencies=may, status_code=201)
    def resize(
        lora: str = Body(...),
        name: str = Body(""),
        rank: int | None = Body(None),
        share: float | None = Body(None),
        precision: str = Body("fp16"),
    ) -> dict[str, Any]:
        """``rank``: at most; ``share``: of the change kept, 0 to 1."""
        return services().lora_tools.resize(lora, name, rank, share, precision=precision).status()
