"""The files made here, and class images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from lib_finetune.api.routing import KEEP, may_see_pictures, may_use, picture_file

if TYPE_CHECKING:
    from lib_finetune.access import Guard
    from lib_finetune.app.services import Services


def add_routes(router: APIRouter, services: Callable[[], Services], guard: Guard) -> None:
    """Add the routes of this resource."""
    may, may_see = [may_use(guard)], [may_see_pictures(guard)]

    @router.get("/library", summary="The files made here, newest first", dependencies=may)
    def entries() -> list[dict[str, Any]]:
        return services().library.entries()

    @router.delete("/library/{token}", summary="Delete a file and its sidecar files", dependencies=may)
    def delete(token: str) -> dict[str, str]:
        return {"file": services().library.delete(token)}

    @router.get("/library/{token}/file", summary="The file itself", dependencies=may_see, response_class=FileResponse)
    def file(token: str) -> Response:
        path = services().library.file(token)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @router.get("/library/{token}/picture", summary="The image on its card", dependencies=may_see, response_class=Response)
    def picture(token: str, small: bool = False) -> Response:
        path = services().library.picture(token)
        if small:
            return Response(services().thumbnails.of(path), media_type="image/jpeg", headers=KEEP)
        return FileResponse(path, media_type="image/png", headers=KEEP)

    @router.get("/jobs/{name}/everything", summary="What deleting everything of a training takes away", dependencies=may_see)
    def everything(name: str) -> dict[str, Any]:
        return services().library.everything(name)

    @router.delete("/jobs/{name}/everything", summary="Delete everything of a training", dependencies=may)
    def delete_training(name: str) -> dict[str, str]:
        return {"name": services().library.delete_training(name)}

    @router.get("/class-images", summary="Class images that were made", dependencies=may)
    def class_images() -> list[dict[str, Any]]:
        return services().class_images.sets()

    @router.get("/class-images/{folder}/{file}", summary="A class image", dependencies=may_see, response_class=Response)
    def class_image(folder: str, file: str, small: bool = False) -> Response:
        path = services().class_images.file(folder, file)
        return picture_file(path.parent, path.relative_to(path.parent), services().thumbnails if small else None)

    @router.delete("/class-images/{folder}/{file}", summary="Delete a class image", dependencies=may)
    def delete_class_image(folder: str, file: str) -> dict[str, bool]:
        services().class_images.delete(folder, file)
        return {"ok": True}
