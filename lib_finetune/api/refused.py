"""The routes where nothing can be trained: each answers why. Of pydantic 1 and 2 alike, for it serves in other programs."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

_METHODS = ("GET", "POST", "PUT", "DELETE")


def mount_refusal(app: Starlette, reason: str, prefix: str = "/finetune/v1") -> None:
    """Answer every request below ``prefix`` with status 409 and the reason."""

    def refused(_request: Request) -> JSONResponse:
        return JSONResponse({"detail": [{"field": "", "message": reason}]}, status_code=409)

    app.add_route(f"{prefix}/{{path:path}}", refused, methods=list(_METHODS))
