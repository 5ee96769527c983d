"""The HTTP API under ``/finetune/v1``: the desk over JSON. The only file that knows fastapi."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Body, FastAPI, File, HTTPException, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import APIRoute

from lib_finetune.access import Guard
from lib_finetune.config.codec import to_dict
from lib_finetune.config.schema import schema
from lib_finetune.errors import FinetuneError, InputError

if TYPE_CHECKING:
    from lib_finetune.app.trainings import Desk

_log = logging.getLogger(__name__)
PREFIX = "/finetune/v1"
_TAG = "Finetune"
_SETTINGS = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema()}}}}
"""What takes settings says so in ``/docs``; they are checked by the settings tree itself, whose messages name the field."""
_KEEP = {"Cache-Control": "private, max-age=86400"}
_WRONG: dict[int | str, dict[str, Any]] = {
    401: {"description": "not signed in"},
    422: {"description": "wrong input: {detail: [{field, message}]}"},
}


class _Route(APIRoute):
    """A route whose typed errors become answers: 422 for wrong input, 409 for what cannot be done now."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See fastapi."""
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _problems(422, [{"field": ".".join(map(str, one["loc"][1:])), "message": one["msg"]} for one in error.errors()])
            except InputError as error:
                return _problems(422, [dataclasses.asdict(problem) for problem in error.problems])
            except FinetuneError as error:
                return _problems(409, [{"field": "", "message": str(error)}])

        return told


def _problems(status: int, found: list[dict[str, str]]) -> JSONResponse:
    return JSONResponse({"detail": found}, status_code=status)


def application(desk: Callable[[], Desk], guard: Guard) -> FastAPI:
    """An application of our own, for use without the WebUI."""
    from lib_finetune import __version__

    app = FastAPI(title=_TAG, version=__version__)
    mount(app, desk, guard)
    return app


def mount(app: FastAPI, desk: Callable[[], Desk], guard: Guard) -> None:
    """Add all routes to an application that runs already.

    Args:
        desk: gives the desk when it is needed.
    """
    for make in (_about, _jobs, _results, _together, _pictures, _settings, _places, _job):  # the last has a route for any action
        router = APIRouter(prefix=PREFIX, tags=[_TAG], route_class=_Route, responses=_WRONG)
        make(router, desk, guard)
        app.include_router(router)
    app.openapi_schema = None  # made anew, with our routes


def _may(guard: Guard) -> Any:
    from fastapi import Depends

    def check(request: Request) -> None:
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise HTTPException(403, "Asked by a page of another site.")
        if not guard.allows(request.headers.get("authorization"), request.cookies):
            raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Basic"} if guard.accounts else None)

    return Depends(check)


def _may_see(guard: Guard) -> Any:
    from fastapi import Depends

    def check(request: Request, key: str = "") -> None:
        if not guard.opens(key) and not guard.allows(request.headers.get("authorization"), request.cookies):
            raise HTTPException(401, "Sign in first.")

    return Depends(check)


def _about(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may = [_may(guard)]

    @router.get("/about", summary="Version, checkpoint, device, memory", dependencies=may)
    def about() -> dict[str, Any]:
        return desk().about()

    @router.get("/schema", summary="JSON Schema of the settings", dependencies=may)
    def settings_schema() -> dict[str, Any]:
        return schema()

    @router.post("/check", summary="Look for everything that is wrong with settings", dependencies=may, openapi_extra=_SETTINGS)
    def check(settings: dict[str, Any] = Body(...)) -> dict[str, bool]:
        desk().jobs.check(desk().settings(settings))
        return {"ok": True}


def _jobs(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may = [_may(guard)]

    @router.get("/jobs", summary="All jobs, the queue, errands", dependencies=may)
    def jobs() -> dict[str, Any]:
        return desk().overview()

    @router.post("/jobs", summary="Queue a training", dependencies=may, openapi_extra=_SETTINGS, status_code=201)
    def submit(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return desk().job(desk().jobs.submit(desk().settings(settings)))

    @router.post("/queue/{action}", summary="hold: begin no further job; go: begin again", dependencies=may)
    def queue(action: str) -> dict[str, bool]:
        _chosen({"hold": desk().jobs.hold, "go": desk().jobs.go}, action)()
        return {"held": desk().jobs.held}

    @router.get("/unfinished", summary="Runs that can go on", dependencies=may)
    def unfinished() -> list[str]:
        return desk().unfinished()

    @router.post("/unfinished/{name}", summary="Let an unfinished run go on", dependencies=may)
    def go_on(name: str) -> dict[str, Any]:
        return desk().job(desk().go_on(name))


def _job(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may = [_may(guard)]

    @router.get("/jobs/{name}", summary="A job", dependencies=may)
    def job(name: str) -> dict[str, Any]:
        return {**desk().job(desk().jobs.find(name)), "states": desk().kept_states(name)}

    @router.get(
        "/jobs/{name}/files/{kind}",
        summary="The result itself: lora, checkpoint or embedding",
        dependencies=may,
        response_class=FileResponse,
    )
    def result_file(name: str, kind: str) -> Response:
        found = desk().jobs.find(name).record.files.get(kind)
        if found is None or not Path(found).is_file():
            raise HTTPException(404, "The job has no such file.")
        return FileResponse(found, media_type="application/octet-stream", filename=Path(found).name)

    @router.get("/jobs/{name}/events", summary="What was said and measured since", dependencies=may)
    def events(name: str, line: int = 0, step: int = 0) -> dict[str, Any]:
        return desk().jobs.find(name).since(line, step)

    @router.get("/jobs/{name}/settings", summary="A job's settings", dependencies=may)
    def settings_of_job(name: str) -> dict[str, Any]:
        return to_dict(desk().jobs.find(name).settings)

    @router.put("/jobs/{name}/settings", summary="Other settings for a job that waits", dependencies=may, openapi_extra=_SETTINGS)
    def edit(name: str, settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        desk().jobs.edit(name, desk().settings(settings))
        return desk().job(desk().jobs.find(name))

    @router.delete(
        "/jobs/{name}", summary="Take a waiting job out of the queue, or delete what is left of one that has ended", dependencies=may
    )
    def remove(name: str) -> dict[str, bool]:
        found = desk().jobs.find(name)
        (desk().jobs.forget if found.ended else desk().jobs.cancel)(name)
        return {"ok": True}

    @router.post("/jobs/{name}/stop", summary="End after this step; keep: write the file of what was trained", dependencies=may)
    def stop(name: str, keep: bool = Body(True, embed=True)) -> dict[str, Any]:
        found = desk().jobs.find(name)
        found.stop(keep=keep)
        return desk().job(found)

    @router.post("/jobs/{name}/move", summary="Before another waiting job, or last", dependencies=may)
    def move(name: str, before: str | None = Body(None, embed=True)) -> dict[str, Any]:
        desk().jobs.move(name, before)
        return desk().overview()

    @router.post("/jobs/{name}/clone", summary="A new job like this one, with changes by dotted path", dependencies=may, status_code=201)
    def clone(name: str, changes: dict[str, str] = Body(..., embed=True)) -> dict[str, Any]:
        return desk().job(desk().clone(name, changes))

    @router.post(
        "/jobs/{name}/{action}",
        summary="pause, resume, preview (now), save (now), load (its checkpoint, when it waits for it)",
        dependencies=may,
    )
    def act(name: str, action: str) -> dict[str, Any]:
        found = desk().jobs.find(name)
        known = {
            "pause": found.pause,
            "resume": found.resume,
            "preview": found.preview_now,
            "save": found.save_now,
            "load": found.load_checkpoint,
        }
        _chosen(known, action)()
        return desk().job(found)


def _together(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may = [_may(guard)]

    @router.post("/sweep", summary="A job for each value of one setting", dependencies=may, status_code=201)
    def sweep(settings: dict[str, Any] = Body(...), path: str = Body(...), values: list[str] = Body(...)) -> list[dict[str, Any]]:
        return [desk().job(job) for job in desk().sweep(desk().settings(settings), path, values)]

    @router.post(
        "/compare", summary="The same pictures through the three methods", dependencies=may, openapi_extra=_SETTINGS, status_code=201
    )
    def compare(settings: dict[str, Any] = Body(...)) -> list[dict[str, Any]]:
        return [desk().job(job) for job in desk().compare(desk().settings(settings))]

    @router.post(
        "/groups/{group}/sheet", summary="One sheet of the results of jobs that belong together", dependencies=may, status_code=201
    )
    def group_sheet(group: str, prompts: list[str] = Body([], embed=True)) -> dict[str, Any]:
        return desk().group_sheet(group, prompts).status()

    @router.get("/errands/{name}", summary="A sheet or probe that is being made", dependencies=may)
    def errand(name: str) -> dict[str, Any]:
        return desk().errand(name).status()

    @router.post("/errands/{name}/stop", summary="Give it up", dependencies=may)
    def stop_errand(name: str) -> dict[str, Any]:
        desk().errand(name).stop()
        return desk().errand(name).status()


def _results(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may = [_may(guard)]

    @router.post("/jobs/{name}/sheet", summary="The job's files at several weights, beside the base", dependencies=may, status_code=201)
    def sheet(name: str, prompts: list[str] = Body([]), weights: list[float] = Body([0.6, 0.8, 1.0])) -> Any:
        return desk().result_sheet(name, prompts, weights).status()

    @router.post(
        "/jobs/{name}/more", summary="Train more steps, from the state that was kept last or at a step", dependencies=may, status_code=201
    )
    def more(name: str, steps: int = Body(...), step: int | None = Body(None)) -> dict[str, Any]:
        return desk().job(desk().more(name, steps, step))

    @router.post("/jobs/{name}/pick", summary="Make the file of a step the result", dependencies=may)
    def pick(name: str, step: int = Body(...), delete_others: bool = Body(False)) -> dict[str, str]:
        return desk().pick(name, step, delete_others=delete_others)

    @router.post("/jobs/{name}/select", summary="Load the checkpoint that the job made", dependencies=may, status_code=201)
    def select(name: str) -> dict[str, Any]:
        return desk().select(name).status()

    @router.get("/jobs/{name}/verdict", summary="One change that answers 'too weak' or 'overdone'", dependencies=may)
    def verdict(name: str, said: str) -> dict[str, Any]:
        return dataclasses.asdict(desk().verdict(name, said))


def _pictures(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may, may_see = [_may(guard)], [_may_see(guard)]

    @router.post("/pictures", summary="Send pictures and captions; answers the folder to train from", dependencies=may, status_code=201)
    async def send(files: list[UploadFile] = File(...), folder: str = Query("")) -> dict[str, str]:
        dropped = [(file.filename or "", await file.read()) for file in files]
        return {"folder": str(desk().album.keep(dropped, folder))}

    @router.post("/dataset", summary="The pictures as the model will see them", dependencies=may, openapi_extra=_SETTINGS)
    def dataset(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return desk().album.view(desk().settings(settings))

    @router.put("/captions/{token}", summary="Write a picture's caption; an empty one takes it away", dependencies=may)
    def caption(token: str, text: str = Body(..., embed=True)) -> dict[str, str | None]:
        return {"file": desk().album.caption(token, text)}

    @router.get("/captioners", summary="What can write captions here", dependencies=may)
    def captioners() -> list[str]:
        return desk().captioners()

    @router.post("/captions", summary="Write a caption for each picture that has none", dependencies=may, status_code=201)
    def write_captions(settings: dict[str, Any] = Body(...), captioner: str = Body(...)) -> dict[str, Any]:
        return desk().write_captions(desk().settings(settings), captioner).status()

    @router.post(
        "/word", summary="Draw what the loaded model takes the trigger word for", dependencies=may, openapi_extra=_SETTINGS, status_code=201
    )
    def word(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return desk().draw_word(desk().settings(settings)).status()

    @router.get(
        "/thumbnails/{token}", summary="A picture of the dataset, small, its crop framed", dependencies=may_see, response_class=Response
    )
    def thumbnail(token: str) -> Response:
        return Response(desk().album.thumbnail(token), media_type="image/jpeg", headers=_KEEP)

    @router.get("/jobs/{name}/previews/{step}/{file}", summary="A preview", dependencies=may_see, response_class=FileResponse)
    def preview(name: str, step: str, file: str) -> Response:
        return _picture(desk().jobs.find(name).folder / "previews", Path(step) / file)

    @router.get("/sheets", summary="Sheets that were made", dependencies=may)
    def sheets() -> list[str]:
        return desk().sheets()

    @router.get("/sheets/{file}", summary="A sheet", dependencies=may_see, response_class=FileResponse)
    def one_sheet(file: str) -> Response:
        return _picture(desk().host.paths.data / "sheets", Path(file))


def _settings(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may = [_may(guard)]

    @router.get("/presets", summary="Names of presets", dependencies=may)
    def presets() -> list[str]:
        return desk().shelf.names()

    @router.post("/presets/{name}/apply", summary="Settings with a preset in place", dependencies=may, openapi_extra=_SETTINGS)
    def apply(name: str, settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return to_dict(desk().shelf.with_preset(name, desk().settings(settings)))

    @router.put("/presets/{name}", summary="Keep settings as a preset", dependencies=may, openapi_extra=_SETTINGS)
    def save(name: str, settings: dict[str, Any] = Body(...)) -> dict[str, str]:
        return {"name": desk().shelf.save(name, desk().settings(settings))}

    @router.delete("/presets/{name}", summary="Delete a preset", dependencies=may)
    def delete(name: str) -> dict[str, bool]:
        desk().shelf.delete(name)
        return {"ok": True}

    @router.post("/settings", summary="Settings of an exported file, or of a LoRA, embedding or checkpoint made here", dependencies=may)
    def settings_in(path: str = Body(..., embed=True)) -> dict[str, Any]:
        settings, missing = desk().settings_in(path)
        return {"settings": to_dict(settings), "missing": missing}

    @router.get("/last", summary="What was trained last", dependencies=may)
    def last() -> dict[str, Any]:
        return to_dict(desk().shelf.last())

    @router.post("/cards", summary="The methods side by side, and which one is recommended", dependencies=may)
    def cards(settings: dict[str, Any] = Body(...), wish: str = Body("")) -> dict[str, Any]:
        return desk().cards(desk().settings(settings), wish)

    @router.post("/forecast", summary="Try two steps: time, memory, disk", dependencies=may, openapi_extra=_SETTINGS, status_code=201)
    def forecast(settings: dict[str, Any] = Body(...)) -> dict[str, Any]:
        return desk().forecast(desk().settings(settings)).status()


def _places(router: APIRouter, desk: Callable[[], Desk], guard: Guard) -> None:
    may = [_may(guard)]

    @router.get("/storage", summary="What lies in Finetune's folder, in bytes", dependencies=may)
    def storage() -> list[dict[str, Any]]:
        return desk().storage()

    @router.delete("/storage/{part}", summary="Empty a part of it", dependencies=may)
    def empty(part: str) -> dict[str, int]:
        return {"freed": desk().empty(part)}


def _chosen(known: dict[str, Callable[[], Any]], action: str) -> Callable[[], Any]:
    if action not in known:
        raise HTTPException(404, f"There is no {action!r}: {', '.join(known)}.")
    return known[action]


def _picture(folder: Path, inside: Path) -> Response:
    """A PNG below a folder; whatever else is asked for is not there."""
    path = (folder / inside).resolve()
    if folder.resolve() not in path.parents or path.suffix != ".png" or not path.is_file():
        raise HTTPException(404, "There is no such picture.")
    return FileResponse(path, media_type="image/png", headers=_KEEP)
