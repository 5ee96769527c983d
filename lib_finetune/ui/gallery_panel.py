"""The training images as the model sees them, their captions, and what the trigger word means already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.errors import FinetuneError
from lib_finetune.ui import form, gallery, status
from lib_finetune.ui.components import QUICK, guarded, own
from lib_finetune.ui.latest_only import LatestOnly
from lib_finetune.ui.page_state import PageState

if TYPE_CHECKING:
    from lib_finetune.app.comparison_grid import ComparisonGrids
    from lib_finetune.app.datasets import Datasets
    from lib_finetune.app.method_advisor import MethodAdvisor
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.images_panel import ImagesPanel
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.settings_form import SettingsForm

_log = logging.getLogger(__name__)


class GalleryPanel:
    """Follows the form."""

    _gallery: gr.HTML
    _captioner: gr.Dropdown
    _write_captions: gr.Button
    _word: gr.Button

    def __init__(
        self,
        datasets: Callable[[], Datasets],
        comparison_grids: Callable[[], ComparisonGrids],
        settings: SettingsForm,
        answers: Answers,
        images: ImagesPanel,
        advisor: Callable[[], MethodAdvisor],
    ) -> None:
        """
        Args:
            images: where the line under the folder stands.
            advisor: tells what settings that are left automatic will be.
        """
        self._datasets = datasets
        self._advisor = advisor
        self._comparison_grids = comparison_grids
        self._settings = settings
        self._answers = answers
        self._images = images
        self._latest = LatestOnly()

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        with gr.Group(elem_id="finetune_view"):
            self._gallery = gr.HTML(gallery.render(None, page_key()), elem_id="finetune_gallery")
            with gr.Row(elem_id="finetune_dataset_tools"):
                self._captioner = own(gr.Dropdown([], label="Write captions with", visible=False, elem_id="finetune_captioner"))
                self._write_captions = own(gr.Button("Write captions", size="sm", visible=False, elem_id="finetune_write_captions"))
                self._word = own(gr.Button("Test the trigger word", size="sm", elem_id="finetune_word"))

    def wire(self, hooks: PageHooks, message: gr.HTML) -> None:
        """Who is called when."""
        everything = self._settings.components
        self._word.click(guarded(self.draw_trigger_word), everything, [message], **QUICK)
        self._write_captions.click(guarded(self.write_captions), [self._captioner, *everything], [message], **QUICK)
        hooks.first.click(guarded(self.captioners), [], [self._captioner, self._write_captions], **QUICK)

    def show_after(self, event: Callable[..., Any], hooks: PageHooks) -> Any:
        """Show the images of the form at an event; returns the event that follows."""
        return event(guarded(self.look), [hooks.page, *self._settings.components], self._seen(), **QUICK)

    def show_filled_after(self, event: Callable[..., Any], hooks: PageHooks) -> Any:
        """As `show_after`, where a button has put other settings into the form."""
        return event(guarded(self.look_if_filled), [hooks.page, *self._settings.components], self._seen(), **QUICK)

    def _seen(self) -> list[Any]:
        return [self._images.summary, self._gallery, self._images.drawn, self._settings.checked]

    def look(self, page: PageState, *values: Any) -> tuple[Any, ...]:
        """For what is in the form now: the line under the folder, the images, whether "Photo or drawn?" is asked, and `SettingsForm.facts`."""
        asks = gr.update(visible=values[list(form.TOP).index("kind")] == "person")
        with self._latest.newest(page) as newest:
            if not newest:
                return gr.update(), gr.update(), asks, gr.update()
            summary, shown, view = self._looked_at(values)
            marks = page.setdefault("marks", {})
            same = shown is not None and marks.get("gallery") == hash(shown)
            if shown is not None:
                marks["gallery"] = hash(shown)
            checked = self._settings.checked_html(values, self._automatic(values, view))
            return summary, gr.update() if shown is None or same else shown, asks, checked

    def _looked_at(self, values: tuple[Any, ...]) -> tuple[str, str | None, dict[str, Any] | None]:
        """The line under the folder, the images as HTML, and as plain values."""
        shown: list[Any] = ["", None, None]

        def run() -> str:
            settings = self._settings.settings(values)
            view = self._datasets().view(settings) if settings.data.images.strip() else None
            shown[:] = gallery.summary(view), gallery.render(view, page_key()), view
            return ""

        if message := self._answers.of(run):
            shown[0] = message  # at the field; the message above Train is that of the buttons
        return shown[0], shown[1], shown[2]

    def _automatic(self, values: tuple[Any, ...], view: Mapping[str, Any] | None) -> dict[str, str]:
        try:
            return self._advisor().automatic(self._settings.settings(values), view)
        except FinetuneError:  # said at the field
            return {}
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("What is automatic cannot be told", exc_info=True)
            return {}

    def look_if_filled(self, page: PageState, *values: Any) -> tuple[Any, ...]:
        """As `look`, after a button of the page that has put other settings into the form."""
        return self.look(page, *values) if page.pop("filled", False) else (gr.update(),) * 4

    def draw_trigger_word(self, *values: Any) -> str:
        """Have the loaded model draw the trigger word."""

        def start() -> str:
            self._comparison_grids().of_trigger_word(self._settings.settings(values))
            return status.note("The loaded model draws the trigger word; the images appear in the place Compare.")

        return self._answers.of(start)

    def write_captions(self, captioner: str, *values: Any) -> str:
        """Have a caption written for each image without one."""

        def run() -> str:
            self._datasets().write_captions(self._settings.settings(values), captioner)
            return status.note("Images without a caption get one, beside them; edit them below when it is done.")

        return self._answers.of(run)

    def captioners(self) -> tuple[Any, Any]:
        """Updates of what can write captions here, and of the button that has it do so."""
        try:
            names = self._datasets().captioners()
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("Captioners cannot be listed", exc_info=True)
            names = []
        return gr.update(choices=names, value=names[0] if names else None, visible=bool(names)), gr.update(visible=bool(names))
