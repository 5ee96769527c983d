"""The HTTP API under ``/finetune/v1``: the services over JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI

from lib_finetune.api import (
    about,
    comparison_grids,
    datasets,
    jobs,
    library,
    mask_routes,
    page_files,
    queue,
    results,
    settings,
    storage,
    tools,
)
from lib_finetune.api.routing import WRONG_INPUT, Route

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services

PREFIX = "/finetune/v1"
_TAG = "Finetune"
_RESOURCES = (about, queue, results, comparison_grids, datasets, mask_routes, settings, storage, library, tools, page_files, jobs)
"""In this order: the last has a route for any action of a job."""


def application(services: Callable[[], Services], guard: Guard) -> FastAPI:
    """An application of our own, for use without the WebUI."""
    from lib_finetune import __version__

    app = FastAPI(title=_TAG, version=__version__)
    mount(app, services, guard)
    return app


def mount(app: FastAPI, services: Callable[[], Services], guard: Guard) -> None:
    """Add all routes to an application that runs already.

    Args:
        services: called when they are needed.
    """
    for resource in _RESOURCES:
        router = APIRouter(prefix=PREFIX, tags=[_TAG], route_class=Route, responses=WRONG_INPUT)
        resource.add_routes(router, services, guard)
        app.include_router(router)
    app.openapi_schema = None  # made anew, with our routes
