"""The tab: pictures, what they show, how, a name, Train; and beside it what is seen."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.app import datasets
from lib_finetune.app.about import memory_of
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.errors import FinetuneError, InputError
from lib_finetune.ui import actions, cards, form, gallery, html, outcome, queue, status
from lib_finetune.ui.form import own
from lib_finetune.ui.latest_only import LatestOnly

_log = logging.getLogger(__name__)
ELEMENT = "finetune"
_CONTROLS = {
    "pause": "Pause",
    "resume": "Resume",
    "preview": "Preview now",
    "save": "Save now",
    "keep": "Stop and keep",
    "discard": "Stop and discard",
}
_PANELS = ("panel", "outcome", "queue", "history", "sheets")
_RESTORE = """(told, ...now) => {
    const [untouched, last] = JSON.parse(told || "[null, null]");
    return last && JSON.stringify(now) === JSON.stringify(untouched) ? last : now;
}"""


class Tab:
    """Builds the tab and answers its buttons."""

    def __init__(self, services: Callable[[], Any], missing: Callable[[], list[str]]) -> None:
        """
        Args:
            services: gives the `Services`; called when it is needed, so that the tab appears whatever is missing.
            missing: sentences on libraries that are missing, with the command that adds them.
        """
        self._services = services
        self._missing = missing
        self._paths: list[str] = []
        self._parts: dict[str, Any] = {}
        self._pictures, self._methods = LatestOnly(), LatestOnly()

    def build(self) -> Any:
        """The gradio Blocks of the tab."""
        with gr.Blocks(analytics_enabled=False) as blocks:
            self.fill()
        return blocks

    def fill(self) -> None:
        """Put the tab into the Blocks that are open."""
        parts = self._parts
        gr.HTML(status.problems(self._missing()), elem_id="finetune_missing")
        with gr.Row(elem_id="finetune_columns"):
            with gr.Column(scale=6, min_width=320):
                self._left()
            with gr.Column(scale=6, min_width=320):
                self._right()
        self._below()
        for name in ("act", "refresh", "look", "first"):
            parts[name] = own(gr.Button(name, visible=False, elem_id=f"finetune_{name}"))
        parts["action"] = own(gr.Textbox("", visible=False, elem_id="finetune_action"))
        parts["restored"] = own(gr.Textbox("", visible=False, elem_id="finetune_restored"))
        parts["page"] = gr.State({})  # what a page shows now; an object of its own for each page, changed in place
        self._wire()

    # -- layout ----------------------------------------------------------------------------------------------------

    def _left(self) -> None:
        parts = self._parts
        with gr.Group():
            parts["images"] = own(
                gr.Textbox(label="1  Pictures: a folder", placeholder="/home/me/pictures/cat", max_lines=1, elem_id="finetune_images")
            )
            # Not gradio's own: it copies whatever file of this machine a request names, before we are asked.
            limits = {
                "file": datasets.FILE_BYTES,
                "files": datasets.FILES,
                "drop": datasets.DROP_BYTES,
                "said": datasets.LIMITS,
                "endings": datasets.Datasets.sent_endings(),
            }
            gr.HTML(html.drop("pictures", "or drop pictures (and captions) here", page_key(), limits), elem_id="finetune_files")
            parts["found"] = gr.HTML("", elem_id="finetune_found")
        with gr.Group():
            parts["kind"] = own(gr.Radio(form.KINDS, value="", label="2  What do they show?", elem_id="finetune_kind"))
            parts["drawn"] = own(gr.Radio(form.DRAWN, value="", label="Photo or drawn?", visible=False, elem_id="finetune_drawn"))
            with gr.Row():
                parts["trigger"] = own(gr.Textbox(label="Trigger word", placeholder="zxq", max_lines=1, elem_id="finetune_trigger"))
                parts["class_word"] = own(
                    gr.Textbox(label="Class word (optional)", placeholder="cat", max_lines=1, elem_id="finetune_class_word")
                )
                parts["wish"] = own(gr.Dropdown(form.WISHES, value=form.NO_WISH, label="What matters most?", elem_id="finetune_wish"))
        with gr.Group():
            parts["method"] = own(gr.Radio(form.method_choices(), value=METHODS[0], label="3  How?", elem_id="finetune_method"))
            parts["cards"] = gr.HTML(cards.bare(METHODS[0]), elem_id="finetune_cards")
        parts["message"] = gr.HTML("", elem_id="finetune_message")
        with gr.Row(elem_id="finetune_start"):
            parts["name"] = own(
                gr.Textbox(label="4  Name of the result", placeholder="my-cat", max_lines=1, scale=4, elem_id="finetune_name")
            )
            parts["forecast"] = own(gr.Button("Forecast", scale=1, elem_id="finetune_forecast"))
            parts["train"] = own(gr.Button("Train", variant="primary", scale=2, elem_id="finetune_train"))
        with gr.Accordion("More settings", open=False, elem_id="finetune_more"):
            self._presets()
            parts["more"], parts["sections"] = form.more_settings()
            self._paths = list(parts["more"])
            given = escape(form.defaults(self._paths))
            gr.HTML(f'<div id="finetune_defaults" data-defaults="{given}" hidden></div>', visible=True)

    def _presets(self) -> None:
        parts = self._parts
        with gr.Row():
            parts["preset"] = own(gr.Dropdown([], label="Preset", value=None, elem_id="finetune_preset"))
            parts["preset_name"] = own(gr.Textbox(label="Save these settings as", max_lines=1, elem_id="finetune_preset_name"))
        with gr.Row():
            for name, label in (("load_preset", "Use"), ("save_preset", "Save"), ("delete_preset", "Delete"), ("reset", "All to defaults")):
                parts[name] = own(gr.Button(label, size="sm", elem_id=f"finetune_{name}"))
        with gr.Row():
            label = "Settings from a file: exported ones, or a LoRA, embedding or checkpoint made here"
            gr.HTML(html.drop("settings/file", label, page_key()), elem_id="finetune_import")
            parts["export"] = own(gr.Button("Export", size="sm", elem_id="finetune_export"))
            parts["exported"] = own(gr.File(label="Exported settings", visible=False, interactive=False, elem_id="finetune_exported"))

    def _right(self) -> None:
        parts = self._parts
        with gr.Row(elem_id="finetune_controls"):
            for name, label in _CONTROLS.items():
                parts[name] = own(gr.Button(label, size="sm", visible=False, elem_id=f"finetune_{name}"))
            parts["load"] = own(gr.Button("Load the checkpoint and go on", size="sm", visible=False, elem_id="finetune_load"))
        parts["panel"] = gr.HTML(status.render(None, None), elem_id="finetune_panel")
        parts["outcome"] = gr.HTML("", elem_id="finetune_outcome")
        with gr.Row():
            parts["left"] = own(gr.Dropdown([], label="Unfinished runs", visible=False, interactive=True, elem_id="finetune_unfinished"))
            parts["go_on"] = own(gr.Button("Continue this run", visible=False, elem_id="finetune_continue"))
        with gr.Accordion("Pictures, as the model will see them", open=True, elem_id="finetune_view"):
            parts["gallery"] = gr.HTML(gallery.render(None, page_key()), elem_id="finetune_gallery")
            with gr.Row():
                parts["captioner"] = own(gr.Dropdown([], label="Write captions with", visible=False, elem_id="finetune_captioner"))
                parts["write_captions"] = own(gr.Button("Write captions", size="sm", visible=False, elem_id="finetune_write_captions"))
                parts["word"] = own(gr.Button("What does the trigger word mean already?", size="sm", elem_id="finetune_word"))

    def _below(self) -> None:
        parts = self._parts
        with gr.Accordion("Queue", open=False, elem_id="finetune_queue_part") as parts["queue_part"]:
            parts["queue"] = gr.HTML("", elem_id="finetune_queue")
        with gr.Accordion("Results", open=False, elem_id="finetune_history_part"):
            parts["history"] = gr.HTML("", elem_id="finetune_history")
        with gr.Accordion("Sheets", open=False, elem_id="finetune_sheets_part"):
            parts["sheets"] = gr.HTML("", elem_id="finetune_sheets")
        with gr.Accordion("Compare: the three methods, or values of one setting", open=False, elem_id="finetune_compare_part"):
            gr.HTML(
                "<p>Several jobs with these pictures go into the queue; at the end, one sheet shows them side by side, with size, time and memory.</p>"
            )
            with gr.Row():
                parts["compare"] = own(gr.Button("Train LoRA, DreamBooth and Textual Inversion", elem_id="finetune_compare"))
                parts["sweep_path"] = own(gr.Dropdown(form.numbers(), value="network.rank", label="Setting", elem_id="finetune_sweep_path"))
                parts["sweep_values"] = own(gr.Textbox("8, 16, 32", label="Values", max_lines=1, elem_id="finetune_sweep_values"))
                parts["sweep"] = own(gr.Button("Train one for each value", elem_id="finetune_sweep"))
        with gr.Accordion("Storage", open=False, elem_id="finetune_storage_part"):
            parts["storage"] = gr.HTML("", elem_id="finetune_storage")
            parts["measure"] = own(gr.Button("Measure", size="sm", elem_id="finetune_measure"))

    # -- wiring ----------------------------------------------------------------------------------------------------

    def _form(self) -> list[Any]:
        parts = self._parts
        return [*(parts[name] for name in form.TOP), *parts["more"].values()]

    def _wire(self) -> None:
        """Not through gradio's queue: a stop must not wait for somebody's pictures."""
        parts, everything = self._parts, self._form()
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        message = [parts["message"]]
        parts["method"].change(form.shown_parts, [parts["method"]], list(parts["sections"].values()), **quick)
        for name in ("images", "trigger", "class_word"):
            self._then_look(parts[name].submit, everything, quick)
            self._then_look(parts[name].blur, everything, quick)
        for name in ("kind", "drawn", "method", "wish"):
            self._then_look(parts[name].change, everything, quick)
        self._then_look(parts["look"].click, everything, quick)
        parts["train"].click(self._train, [parts["page"], *everything], message, **quick)
        parts["forecast"].click(self._forecast, everything, message, **quick)
        parts["word"].click(self._word, everything, message, **quick)
        parts["compare"].click(self._compare, everything, message, **quick)
        parts["sweep"].click(self._sweep, [parts["sweep_path"], parts["sweep_values"], *everything], message, **quick)
        self._wire_presets(everything, quick)
        self._wire_conditions(everything, quick)
        for name, action in (("keep", self._keep), ("discard", self._discard), ("load", self._load_checkpoint)):
            parts[name].click(action, [parts["page"]], message, **quick)
        for name in ("pause", "resume", "preview", "save"):
            parts[name].click(self._control(name), [parts["page"]], message, **quick)
        left = [parts["left"], parts["go_on"]]
        parts["go_on"].click(self._continue, [parts["left"]], message, **quick).then(self._unfinished, [], left, **quick)
        acted = parts["act"].click(self._act, [parts["action"], parts["page"], *everything], [parts["message"], *everything], **quick)
        fitting = acted.then(self._applying, everything, self._conditional(), **quick)
        shown = fitting.then(self._look_if_filled, [parts["page"], *everything], self._seen(), **quick)
        shown.then(self._cards, [parts["page"], parts["wish"], *everything], [parts["cards"]], **quick)
        parts["measure"].click(self._measure, [], [parts["storage"]], queue=False)
        parts["write_captions"].click(self._write_captions, [parts["captioner"], *everything], message, **quick)
        # javascript/finetune.js presses it. Not `every=`: gradio 3.41 never ends that stream when the page goes away, and
        # the WebUI's Reload UI then waits for it for ever.
        shown = [parts[name] for name in (*_PANELS, *_CONTROLS, "load", "queue_part")]
        parts["refresh"].click(self._poll, [parts["page"]], shown, **quick)
        # The script presses it when the tab is looked at for the first time: a WebUI that is opened for something else loads nothing of ours.
        first = parts["first"]
        first.click(self._unfinished, [], left, **quick)
        first.click(self._captioners, [], [parts["captioner"], parts["write_captions"]], **quick)
        first.click(self._preset_names, [], [parts["preset"]], **quick)
        read = first.click(self._last, [], [parts["restored"]], **quick)
        # In the browser, at once: what has been typed until now stays. Gradio hands the script what the outputs hold, behind the inputs.
        restored = read.then(None, [parts["restored"]], everything, _js=_RESTORE)
        self._then_look(restored.then, everything, quick)

    def _then_look(self, event: Callable[..., Any], everything: list[Any], quick: dict[str, Any]) -> None:
        """The pictures first, for they are there at once; then the methods' cards, which ask the host."""
        parts = self._parts
        seen = event(self._look, [parts["page"], *everything], self._seen(), **quick)
        seen.then(self._cards, [parts["page"], parts["wish"], *everything], [parts["cards"]], **quick)

    def _seen(self) -> list[Any]:
        return [self._parts[name] for name in ("found", "gallery", "drawn")]

    def _conditional(self) -> list[Any]:
        return [self._parts["more"][path] for path in form.conditional(self._paths)]

    def _wire_presets(self, everything: list[Any], quick: dict[str, Any]) -> None:
        parts = self._parts
        message, names = parts["message"], [parts["preset"], parts["message"]]
        filled = [
            parts["load_preset"].click(self._use_preset, [parts["preset"], *everything], [message, *everything], **quick),
            parts["reset"].click(self._reset, everything, [message, *everything], **quick),
        ]
        for event in filled:
            self._then_look(event.then(self._applying, everything, self._conditional(), **quick).then, everything, quick)
        parts["save_preset"].click(self._save_preset, [parts["preset_name"], *everything], names, **quick)
        parts["delete_preset"].click(self._delete_preset, [parts["preset"]], names, **quick)
        parts["export"].click(self._export, everything, [parts["exported"], message], **quick)

    def _wire_conditions(self, everything: list[Any], quick: dict[str, Any]) -> None:
        """What does not apply is not there: looked at whenever something changes that others depend on."""
        parts = self._parts
        outputs = self._conditional()
        for component in (parts["method"], *parts["more"].values()):
            event = component.blur if isinstance(component, gr.Textbox) else component.change
            event(self._applying, everything, outputs, **quick)

    # -- what is asked for -----------------------------------------------------------------------------------------

    def _settings(self, values: tuple[Any, ...]) -> Any:
        return self._services().settings_files.allowed(
            form.settings_from(self._paths, values[len(form.TOP) :], dict(zip(form.TOP.values(), values, strict=False)))
        )

    def _read(self, values: tuple[Any, ...]) -> Any:
        """The form's settings; what cannot be read is told together with what else is wrong."""
        try:
            return self._settings(values)
        except InputError as unread:
            problems = list(unread.problems)
            try:
                top = dict(zip(form.TOP.values(), values, strict=False))
                self._services().jobs.check(form.settings_from([], [], top))
            except InputError as error:
                problems += error.problems
            raise InputError(list(dict.fromkeys(problems))) from unread

    def _train(self, page: dict[str, Any], *values: Any) -> str:
        def start() -> str:
            job, edited = self._services().trainings.train(self._read(values), page.get("editing", ""))
            page["editing"] = ""
            if edited:
                return status.note(f"{job.settings.name} waits with its new settings.")
            return status.note(self._begun(job))

        return self._answer(start)

    def _begun(self, job: Any) -> str:
        """What becomes of a job that was just added."""
        name, ahead = job.settings.name, self._services().jobs.ahead_of(job)
        if lost := self._services().jobs.lost:
            return f"{name} waits. {lost}"
        if self._services().jobs.held:
            return f"{name} waits: the queue is held. Press Start the queue, below."
        if ahead:
            return f"{name} waits in the queue; {ahead} before it."
        return f"{name} has been started; it goes on when this page is closed."

    def _forecast(self, *values: Any) -> str:
        def start() -> str:
            self._services().advisor.forecast(self._read(values))
            return status.note("Two steps are tried out; the forecast appears on the right.")

        return self._answer(start)

    def _word(self, *values: Any) -> str:
        def start() -> str:
            self._services().comparison_grids.of_trigger_word(self._settings(values))
            return status.note("The loaded model draws the trigger word; the pictures appear under Sheets.")

        return self._answer(start)

    def _compare(self, *values: Any) -> str:
        def start() -> str:
            jobs = self._services().trainings.compare(self._read(values))
            return status.note(f"{len(jobs)} jobs are in the queue: {', '.join(job.settings.name for job in jobs)}.")

        return self._answer(start)

    def _sweep(self, path: str, given: str, *values: Any) -> str:
        def start() -> str:
            jobs = self._services().trainings.sweep(self._read(values), path, given.split(","))
            return status.note(f"{len(jobs)} jobs are in the queue: {', '.join(job.settings.name for job in jobs)}.")

        return self._answer(start)

    def _continue(self, name: str) -> str:
        return self._answer(lambda: status.note(f"{self._services().trainings.resume(name or '').settings.name} goes on."))

    def _keep(self, page: dict[str, Any]) -> str:
        return self._control_shown(page, lambda control: control.stop(keep=True))

    def _discard(self, page: dict[str, Any]) -> str:
        return self._control_shown(page, lambda control: control.stop(keep=False))

    def _load_checkpoint(self, page: dict[str, Any]) -> str:
        return self._control_shown(page, lambda control: control.load_checkpoint())

    def _control(self, name: str) -> Callable[[dict[str, Any]], str]:
        member = {"preview": "preview_now", "save": "save_now"}.get(name, name)
        return lambda page: self._control_shown(page, lambda control: getattr(control, member)())

    def _control_shown(self, page: dict[str, Any], action: Callable[[Any], None]) -> str:
        """A button above the panel means the job that this page shows, which need not be the one that runs by now."""

        def run() -> str:
            name = page.get("shown")
            if not name:
                return ""
            job = self._services().jobs.find(name)
            if job.ended:
                return status.note(f"{job.settings.name} has ended already; nothing was changed.")
            action(job.control)
            return ""

        return self._answer(run)

    def _act(self, told: str, page: dict[str, Any], *values: Any) -> tuple[Any, ...]:
        """A button of the page's own; see `actions`. Three of them change what the page shows."""
        kept: list[Any] = [gr.update()] * len(values)

        def run() -> str:
            name, given = self._given(told)
            if name == "show":
                page["job"], page["said"] = given.get("job"), ""
            elif name in ("again", "edit"):
                job = self._services().jobs.find(str(given.get("job")))
                kept[:] = self._filled(self._services().trainings.settings_for_form(job, edit=name == "edit"))
                page["filled"], page["editing"] = True, job.folder.name if name == "edit" else ""
            elif name == "import":
                subject = given.get("subject") is True
                now = Settings() if subject else self._settings(values)
                kept[:] = self._filled(self._services().settings_files.for_form(given.get("settings"), now, subject=subject))
                page["filled"] = True
                missing = given.get("missing")
                return status.note(" ".join(["The settings are in the form.", *map(str, missing if isinstance(missing, list) else ())]))
            elif name == "caption":
                self._services().datasets.caption(str(given.get("picture")), str(given.get("text")))
            elif name == "default":
                kept[:] = self._filled(self._services().presets.default(self._settings(values), str(given.get("path"))))
            else:
                said = actions.act(self._services(), name, given)
                if name != "verdict":
                    return status.note(said) if said else ""
                page["said"] = said
            return ""

        said = self._answer(run)
        return said, *kept

    @staticmethod
    def _given(told: str) -> tuple[str, dict[str, Any]]:
        try:
            asked = json.loads(told or "{}")
            return str(asked["do"]), dict(asked.get("given") or {})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("The page asked for something that cannot be read. Reload the page.") from error

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

    # -- settings --------------------------------------------------------------------------------------------------

    def _filled(self, settings: Any) -> list[Any]:
        """What the form's components show for settings."""
        return form.values_of(settings, self._paths)

    def _into_form(self, values: tuple[Any, ...], make: Callable[[], tuple[Any, str]]) -> tuple[Any, ...]:
        """The message and the form, filled with the settings that ``make`` gives, or as it is."""
        kept: list[Any] = [gr.update()] * len(values)

        def run() -> str:
            settings, said = make()
            kept[:] = self._filled(settings)
            return status.note(said) if said else ""

        return self._answer(run), *kept

    def _applying(self, *values: Any) -> list[Any]:
        paths = form.conditional(self._paths)
        try:
            settings = self._settings(values)
        except (FinetuneError, OSError):  # said when Train is pressed
            return [gr.update()] * len(paths)
        return [gr.update(visible=shown) for shown in form.applying(settings, paths)]

    def _use_preset(self, name: str, *values: Any) -> tuple[Any, ...]:
        return self._into_form(
            values, lambda: (self._services().presets.with_preset(name or "", self._settings(values)), f"Preset {name} is in the form.")
        )

    def _reset(self, *values: Any) -> tuple[Any, ...]:
        return self._into_form(
            values, lambda: (self._services().presets.defaults(self._settings(values)), "All further settings are at their defaults.")
        )

    def _last(self) -> str:
        """What the form shows at first, and what it would show with the settings of the last training, as JSON."""
        try:
            return json.dumps([self._filled(Settings()), self._filled(self._services().settings_files.last())])
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("The last settings cannot be shown", exc_info=True)
            return ""

    def _save_preset(self, name: str, *values: Any) -> tuple[Any, str]:
        said = self._answer(lambda: status.note(f"Saved as {self._services().presets.save(name, self._settings(values))}."))
        return self._preset_names(), said

    def _delete_preset(self, name: str) -> tuple[Any, str]:
        def run() -> str:
            self._services().presets.delete(name or "")
            return status.note(f"{name} is deleted.")

        said = self._answer(run)
        return self._preset_names(), said

    def _preset_names(self) -> Any:
        try:
            return gr.update(choices=self._services().presets.names())
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("Presets cannot be listed", exc_info=True)
            return gr.update()

    def _export(self, *values: Any) -> tuple[Any, str]:
        file: list[str] = []

        def run() -> str:
            file.append(str(self._services().settings_files.export(self._settings(values))))
            return ""

        said = self._answer(run)
        return (gr.update(value=file[0], visible=True) if file else gr.update()), said

    # -- what is shown ---------------------------------------------------------------------------------------------

    def _look(self, page: object, *values: Any) -> tuple[Any, ...]:
        """The pictures for what is in the form now."""
        asks = gr.update(visible=values[list(form.TOP).index("kind")] == "person")
        shown: list[Any] = [gr.update(), gr.update()]

        def run() -> str:
            settings = self._settings(values)
            view = self._services().datasets.view(settings) if settings.data.images.strip() else None
            shown[:] = gallery.found(view), gallery.render(view, page_key())
            return ""

        with self._pictures.newest(page) as newest:
            if newest and (said := self._answer(run)):
                shown[0] = said  # at the field; the message above Train is that of the buttons
        return *shown, asks

    def _look_if_filled(self, page: dict[str, Any], *values: Any) -> tuple[Any, ...]:
        """After a button of the page that has put other settings into the form."""
        return self._look(page, *values) if page.pop("filled", False) else (gr.update(), gr.update(), gr.update())

    def _cards(self, page: object, wish: str, *values: Any) -> Any:
        with self._methods.newest(page) as newest:
            if not newest:
                return gr.update()
            try:
                settings = self._settings(values)
                return cards.render(self._services().advisor.cards(settings, form.wish_of(wish)), settings.method)
            except FinetuneError:  # said beside the pictures already
                return gr.update()
            except Exception:  # noqa: BLE001  an edge: shown or logged
                _log.debug("The methods cannot be compared", exc_info=True)
                return gr.update()

    def _poll(self, page: dict[str, Any]) -> tuple[Any, ...]:
        try:
            panels, visible = self._now(page)
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.debug("The status cannot be shown", exc_info=True)
            reason = str(error) if isinstance(error, FinetuneError) else f"The status cannot be shown: {error!r}"
            panels = {"panel": status.problems([reason])}
            visible = {}
        # What has not changed is not sent again: pictures would flicker, and what is being typed there would be lost.
        marks = {name: hash(html) for name, html in panels.items()}
        old = page.get("marks", {})
        updates = [gr.update() if name not in panels or old.get(name) == marks.get(name) else panels[name] for name in _PANELS]
        buttons = [gr.update(visible=visible.get(name, False)) for name in (*_CONTROLS, "load")]
        page["marks"] = {**old, **marks}
        return *updates, *buttons, self._queue_title(page)

    def _queue_title(self, page: dict[str, Any]) -> Any:
        """How many wait, where the eye is, when that has changed."""
        try:
            count = len(self._services().jobs.queue())
        except Exception:  # noqa: BLE001  said in the panel already
            return gr.update()
        if page.get("waiting", 0) == count:
            return gr.update()
        page["waiting"] = count
        return gr.update(label=f"Queue ({count})" if count else "Queue")

    def _now(self, page: dict[str, Any]) -> tuple[dict[str, str], dict[str, bool]]:
        services = self._services()
        overview = services.trainings.overview()
        jobs = {job["id"]: job for job in overview["jobs"]}
        current = services.jobs.current()
        now = jobs.get(current.folder.name) if current is not None else None
        # A job that ends is shown, whatever was looked at before.
        ended = now is not None and page.get("running") == now["id"] and now["state"] not in ("running", "waiting", "paused", "queued")
        active = current is not None and not current.ended
        if now is not None and (ended or "job" not in page):
            page["job"], page["said"] = now["id"], ""
        page["running"] = now["id"] if now and active else ""
        page["shown"] = now["id"] if now else ""
        memory = dataclasses.asdict(memory_of(services.host)) if active else None
        errands = overview["errands"]
        forecast = next((errand for errand in reversed(errands) if errand["kind"] == "forecast"), None)
        captions = next((errand for errand in errands[-1:] if errand["kind"] == "captions"), None)
        failed = [errand["message"] for errand in errands[-1:] if errand["kind"] == "select" and errand["state"] == "failed"]
        panels = {
            "panel": status.problems([overview["lost"]] if overview["lost"] else [])
            + status.render(now, memory, page_key())
            + cards.forecast(forecast)
            + gallery.captions(captions)
            + status.problems(failed),
            "outcome": self._outcome(jobs.get(page.get("job", "")), page.get("said", "")),
            "queue": queue.queue(overview),
            "history": queue.history(overview),
            "sheets": queue.sheets(services.comparison_grids.names(), errands, page_key()),
        }
        state = now["state"] if now else ""
        going = active and now is not None and not now["stopping"]
        visible = dict.fromkeys((*_CONTROLS,), going) | {"load": state == "waiting"}
        visible |= {"pause": going and state == "running", "resume": going and state == "paused"}
        return panels, visible

    def _outcome(self, job: dict[str, Any] | None, said: str) -> str:
        if job is None:
            return ""
        ended = job["state"] in ("done", "stopped", "interrupted", "failed")
        return outcome.render({**job, "states": self._services().trainings.kept_states(job["id"]) if ended else ()}, said)

    def _measure(self) -> str:
        return self._answer(lambda: queue.storage(self._services().storage.parts()))

    def _write_captions(self, kind: str, *values: Any) -> str:
        def run() -> str:
            self._services().datasets.write_captions(self._settings(values), kind)
            return status.note("Pictures without a caption get one, beside them; edit them below when it is done.")

        return self._answer(run)

    def _captioners(self) -> tuple[Any, Any]:
        try:
            names = self._services().datasets.captioners()
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("Captioners cannot be listed", exc_info=True)
            names = []
        return gr.update(choices=names, value=names[0] if names else None, visible=bool(names)), gr.update(visible=bool(names))

    def _unfinished(self) -> tuple[Any, Any]:
        try:
            names = self._services().trainings.unfinished()
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("Unfinished runs cannot be listed", exc_info=True)
            names = []
        return gr.update(choices=names, value=names[0] if names else None, visible=bool(names)), gr.update(visible=bool(names))
