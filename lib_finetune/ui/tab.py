"""The tab: pictures, what they show, a name, Train; and beside it what happens."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from lib_finetune.config.settings import METHODS
from lib_finetune.errors import FinetuneError, InputError
from lib_finetune.ui import form, pictures, status

_log = logging.getLogger(__name__)
ELEMENT = "finetune"


class Tab:
    """Builds the tab and answers its buttons."""

    def __init__(self, runner: Callable[[], Any], missing: Callable[[], list[str]]) -> None:
        """
        Args:
            runner: gives the `jobs.Jobs`; called when it is needed, so that the tab appears whatever is missing.
            missing: sentences on libraries that are missing, with the command that adds them.
        """
        self._runner = runner
        self._missing = missing
        self._paths: list[str] = []

    def build(self) -> Any:
        """The gradio Blocks of the tab."""
        with gr.Blocks(analytics_enabled=False) as blocks:
            with gr.Row(elem_id="finetune_columns"):
                with gr.Column(scale=1):
                    inputs = self._left()
                with gr.Column(scale=1):
                    panel, buttons = self._right()
            self._wire(blocks, inputs, panel, buttons)
        return blocks

    def _left(self) -> dict[str, Any]:
        gr.HTML(status.problems(self._missing()), elem_id="finetune_missing")
        own = form.own
        inputs: dict[str, Any] = {
            "images": own(gr.Textbox(label="Folder with pictures", placeholder="/home/me/pictures/cat", elem_id="finetune_images")),
            "files": own(gr.File(label="or drop pictures (and captions) here", file_count="multiple", elem_id="finetune_files")),
        }
        with gr.Row():
            inputs["method"] = own(gr.Radio(form.method_choices(), value=METHODS[0], label="Method", elem_id="finetune_method"))
        with gr.Row():
            inputs["trigger"] = own(gr.Textbox(label="Trigger word", placeholder="zxq", elem_id="finetune_trigger"))
            inputs["class_word"] = own(gr.Textbox(label="Class word (optional)", placeholder="cat", elem_id="finetune_class_word"))
        with gr.Row():
            inputs["name"] = own(gr.Textbox(label="Name of the result", placeholder="my-cat", elem_id="finetune_name"))
            inputs["train"] = own(gr.Button("Train", variant="primary", elem_id="finetune_train"))
        inputs["message"] = gr.HTML("", elem_id="finetune_message")
        with gr.Accordion("More settings", open=False, elem_id="finetune_more"):
            inputs["more"], inputs["parts"] = form.more_settings()
        self._paths = list(inputs["more"])
        return inputs

    def _right(self) -> tuple[Any, dict[str, Any]]:
        own = form.own
        panel = gr.HTML(status.render(None, None), elem_id="finetune_panel")
        refresh = own(gr.Button("Refresh", visible=False, elem_id="finetune_refresh"))
        with gr.Row():
            buttons: dict[str, Any] = {
                "refresh": refresh,
                "keep": own(gr.Button("Stop and keep", visible=False, elem_id="finetune_keep")),
                "discard": own(gr.Button("Stop and discard", visible=False, elem_id="finetune_discard")),
                "load": own(gr.Button("Load the checkpoint and go on", visible=False, elem_id="finetune_load")),
            }
        with gr.Row():
            buttons["left"] = own(gr.Dropdown([], label="Unfinished runs", visible=False, interactive=True, elem_id="finetune_unfinished"))
            buttons["go_on"] = own(gr.Button("Continue this run", visible=False, elem_id="finetune_continue"))
        return panel, buttons

    def _wire(self, blocks: Any, inputs: dict[str, Any], panel: Any, buttons: dict[str, Any]) -> None:
        message = inputs["message"]
        top = [inputs[name] for name in ("method", "images", "files", "trigger", "class_word", "name")]
        shown = [panel, buttons["keep"], buttons["discard"], buttons["load"]]
        left = [buttons["left"], buttons["go_on"]]
        inputs["method"].change(form.shown_parts, [inputs["method"]], list(inputs["parts"].values()), queue=False, show_progress="hidden")
        # Not through gradio's queue: a stop must not wait for somebody's pictures.
        inputs["train"].click(self._train, [*top, *inputs["more"].values()], [message], queue=False)
        for name, action in (("keep", self._keep), ("discard", self._discard), ("load", self._load)):
            buttons[name].click(action, [], [message], queue=False)
        go_on = buttons["go_on"].click(self._continue, [buttons["left"]], [message], queue=False)
        go_on.then(self._unfinished, [], left, queue=False)
        blocks.load(self._unfinished, [], left, queue=False)
        # javascript/finetune.js presses it. Not `every=`: gradio 3.41 never ends that stream when the page goes away, and
        # the WebUI's Reload UI then waits for it for ever.
        buttons["refresh"].click(self._poll, [], shown, queue=False, show_progress="hidden")

    # -- buttons ---------------------------------------------------------------------------------------------------

    def _train(self, method: str, images: str, files: Any, trigger: str, class_word: str, name: str, *values: Any) -> str:
        def start() -> str:
            top = {"method": method, "data.images": images, "data.trigger": trigger, "data.class_word": class_word, "name": name}
            jobs = self._runner()
            settings = self._read(jobs, top, values)
            if files and not images.strip():
                folder = jobs.host.paths.data / "datasets" / f"{time.strftime('%Y%m%d-%H%M%S')}"
                dropped = [(getattr(file, "orig_name", None) or Path(file.name).name, Path(file.name)) for file in files]
                kept = pictures.keep(dropped, folder)
                settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, images=str(kept)))
            job = jobs.submit(settings)
            return status.note(f"{job.settings.name} has been started; it goes on when this page is closed.")

        return self._answer(start)

    def _read(self, jobs: Any, top: dict[str, str], values: tuple[Any, ...]) -> Any:
        """The form's settings; what cannot be read is told together with what else is wrong."""
        try:
            return form.settings_from(self._paths, values, top)
        except InputError as unread:
            problems = list(unread.problems)
            try:
                jobs.check(form.settings_from([], [], top))
            except InputError as error:
                problems += error.problems
            raise InputError(problems) from unread

    def _continue(self, folder: str) -> str:
        def start() -> str:
            from lib_finetune.run import settings_of

            jobs = self._runner()
            place = jobs.host.paths.data / "runs" / Path(folder or "").name
            settings = settings_of(place) if folder else None
            if settings is None:
                raise InputError("Choose an unfinished run first.")
            jobs.submit(settings, place)
            return ""

        return self._answer(start)

    def _keep(self) -> str:
        return self._tell(lambda job: job.stop(keep=True))

    def _discard(self) -> str:
        return self._tell(lambda job: job.stop(keep=False))

    def _load(self) -> str:
        return self._tell(lambda job: job.load_checkpoint())

    def _tell(self, action: Callable[[Any], None]) -> str:
        def run() -> str:
            job = self._runner().current()
            if job is not None and not job.ended:
                action(job)
            return ""

        return self._answer(run)

    def _answer(self, action: Callable[[], str]) -> str:
        """Run a button's action; what goes wrong becomes the message above Train."""
        try:
            return action()
        except InputError as error:
            return status.problems([form.in_words(problem) for problem in error.problems])
        except FinetuneError as error:
            return status.problems([str(error)])
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.exception("The tab could not do what was asked")
            return status.problems([*self._missing(), f"That did not work: {error!r}. The console has the details."])

    # -- what is shown ---------------------------------------------------------------------------------------------

    def _poll(self) -> tuple[Any, ...]:
        try:
            jobs = self._runner()
            job = jobs.current()
            memory = dataclasses.asdict(jobs.host.memory()) if job is not None and not job.ended else None
            found = job.status() if job is not None else None
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.debug("The status cannot be shown", exc_info=True)
            return (status.problems([f"The status cannot be shown: {error!r}"]), *[gr.update(visible=False)] * 3)
        active = found is not None and found["state"] in ("running", "waiting", "queued") and not found["stopping"]
        waiting = found is not None and found["state"] == "waiting"
        return status.render(found, memory), gr.update(visible=active), gr.update(visible=active), gr.update(visible=waiting)

    def _unfinished(self) -> tuple[Any, Any]:
        try:
            from lib_finetune.jobs import unfinished

            jobs = self._runner()
            busy = {job.folder for job in jobs.all() if not job.ended}
            names = [folder.name for folder in unfinished(jobs.host) if folder not in busy]
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("Unfinished runs cannot be listed", exc_info=True)
            names = []
        return gr.update(choices=names, value=names[0] if names else None, visible=bool(names)), gr.update(visible=bool(names))
