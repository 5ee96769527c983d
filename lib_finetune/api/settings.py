"""Presets, settings from files, the methods side by side, and the trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body, Request
from fastapi.concurrency import run_in_threadpool

from lib_finetune.api.routing import SETTINGS_BODY, may_use
from lib_finetune.api.uploads import FILES_BODY, may_send, sent_files
from lib_finetune.app.settings_files import HEADER_BYTES
from lib_finetune.config.codec import to_dict
from lib_finetune.errors import InputError, Problem

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may = [may_use(guard)]

    @router.get("/presets", summary="Names of presets", dependencies=may)
    def presets() -> list[str]:
        return services().presets.names()

    @router.post("/presets/{name}/apply", summary="Settings with a preset in place", dependencies=may, openapi_extra=SETTINGS_BODY)
    def apply(name: str, settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return to_dict(services().presets.with_preset(name, services().settings_files.from_values(settings)))

    @router.put("/presets/{name}", summary="Keep settings as a preset", dependencies=may, openapi_extra=SETTINGS_BODY)
    def save(name: str, settings: dict[str, Any] = Body(...)) -> dict[str, str]:
        return {"name": services().presets.save(name, services().settings_files.from_values(settings))}

    @router.delete("/presets/{name}", summary="Delete a preset", dependencies=may)
    def delete(name: str) -> dict[str, bool]:
        services().presets.delete(name)
        return {"ok": True}

    @router.post("/settings", summary="Settings of an exported file, or of a LoRA, embedding or checkpoint made here", dependencies=may)
    def settings_in(path: str = Body(..., embed=True)) -> dict[str, Any]:
        settings, missing = services().settings_files.from_file(path)
        return {"settings": to_dict(settings), "missing": missing}

    @router.post(
        "/settings/file",
        summary="Settings of a file that is sent: exported ones, or the beginning of a LoRA, embedding or checkpoint made here",
        dependencies=[may_send(guard)],
        openapi_extra=FILES_BODY,
    )
    async def settings_of(request: Request) -> dict[str, Any]:
        async with sent_files(request, 1, HEADER_BYTES, "A file of settings may have 1 MB; send one.") as files:
            if not files:
                raise InputError([Problem("file", "No file was sent.")])
            (name, content) = files[0]
            settings, missing, subject = await run_in_threadpool(lambda: services().settings_files.from_upload(name, content.read()))
        return {"settings": to_dict(settings), "missing": missing, "subject": subject}

    @router.get("/last", summary="What was trained last", dependencies=may)
    def last() -> dict[str, Any]:
        return to_dict(services().settings_files.last())

    @router.post("/cards", summary="The methods side by side, and which one is recommended", dependencies=may)
    def cards(settings: dict[str, Any] = Body(...), wish: str = Body("")) -> dict[str, Any]:
        return services().advisor.cards(services().settings_files.from_values(settings), wish)

    @router.post("/forecast", summary="Try two steps: time, memory, disk", dependencies=may, openapi_extra=SETTINGS_BODY, status_code=201)
    def forecast(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return services().advisor.forecast(services().settings_files.from_values(settings)).status()
