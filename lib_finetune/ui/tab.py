"""The tab: five places with their panels, and what one panel hands to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.installation import loaded_files, requirements
from lib_finetune.ui import page_hooks, status
from lib_finetune.ui.answers import Answers
from lib_finetune.ui.comparison_panel import ComparisonPanel
from lib_finetune.ui.gallery_panel import GalleryPanel
from lib_finetune.ui.images_panel import ImagesPanel
from lib_finetune.ui.job_panel import JobPanel
from lib_finetune.ui.library_panel import LibraryPanel
from lib_finetune.ui.methods_panel import MethodsPanel
from lib_finetune.ui.page_buttons import PageButtons
from lib_finetune.ui.presets_panel import PresetsPanel
from lib_finetune.ui.queue_panel import QueuePanel
from lib_finetune.ui.refresh import Refresh
from lib_finetune.ui.settings_form import SettingsForm
from lib_finetune.ui.start_panel import StartPanel
from lib_finetune.ui.storage_panel import StoragePanel
from lib_finetune.ui.tools_panel import ToolsPanel

if TYPE_CHECKING:
    from lib_finetune.app.services import Services
    from lib_finetune.ui.page_hooks import PageHooks

ELEMENT = "finetune"
PLACES = {"train": "Train", "runs": "Runs", "compare": "Compare", "library": "Library", "tools": "Tools"}
"""Name → title, in their order."""


class Tab:
    """Joins the panels, each in one of `PLACES`, beneath a bar that shows on all of them what is being trained."""

    _bar: gr.HTML
    _tasks: gr.HTML

    def __init__(self, services: Callable[[], Services], missing: Callable[[], list[str]], *, in_webui: bool = False) -> None:
        """
        Args:
            services: called when they are needed, so that the tab appears whatever is missing.
            missing: sentences on libraries that are missing, with the command that adds them.
            in_webui: whether it is a tab of the WebUI.
        """
        self._missing = missing
        answers = Answers(missing)
        self.settings = SettingsForm(lambda: services().settings_files, lambda: services().jobs, answers)
        self.images = ImagesPanel(self.settings)
        self.methods = MethodsPanel(lambda: services().advisor, self.settings)
        self.start = StartPanel(lambda: services().trainings, lambda: services().advisor, lambda: services().jobs, self.settings, answers)
        self.presets = PresetsPanel(lambda: services().presets, lambda: services().settings_files, self.settings, answers)
        self.job = JobPanel(lambda: services().jobs, lambda: services().trainings, lambda: services().results, answers, in_webui=in_webui)
        self.gallery = GalleryPanel(
            lambda: services().datasets,
            lambda: services().comparison_grids,
            self.settings,
            answers,
            self.images,
            lambda: services().advisor,
        )
        self.queue = QueuePanel()
        self.comparison = ComparisonPanel(lambda: services().trainings, self.settings, answers)
        self.storage = StoragePanel(lambda: services().storage, answers)
        self.library = LibraryPanel(lambda: services().library, lambda: services().class_images, self.storage, answers)
        self.tools = ToolsPanel(services, answers)
        self.refresh = Refresh(services, self.job, self.library, self.tools)
        self.page_buttons = PageButtons(services, self.settings)

    def build(self) -> gr.Blocks:
        """The gradio Blocks of the tab."""
        with gr.Blocks(analytics_enabled=False) as blocks:
            self.fill()
        return blocks

    def fill(self) -> None:
        """Put the tab into the Blocks that are open."""
        builders = (self._build_train, self._build_runs, self.comparison.build, self.library.build, self.tools.build)
        with gr.Column(elem_id="finetune_root"):
            gr.HTML(status.problems(self._missing()), elem_id="finetune_missing")
            self._bar = gr.HTML("", elem_id="finetune_bar")
            with gr.Tabs(elem_id="finetune_places"):
                for (name, title), build in zip(PLACES.items(), builders, strict=True):
                    with gr.Tab(title, elem_id=f"finetune_place_{name}"):
                        build()
            self._wire(page_hooks.build())

    def _build_train(self) -> None:
        with gr.Row(elem_id="finetune_columns"):
            with gr.Column(scale=5, min_width=320):
                self.images.build()
                self.methods.build()
                self.start.build()
            with gr.Column(scale=6, min_width=320):
                self.gallery.build()
                self._tasks = gr.HTML("", elem_id="finetune_tasks")
        with gr.Group(elem_id="finetune_more"):
            self.presets.build()
            self.settings.build_head()
            self.settings.build()

    def _build_runs(self) -> None:
        with gr.Row(elem_id="finetune_runs_columns"):
            with gr.Column(scale=3, min_width=280):
                self.queue.build()
                self.job.build_unfinished()
            with gr.Column(scale=7, min_width=320):
                self.job.build()

    def _wire(self, hooks: PageHooks) -> None:
        message, wish = self.start.message, self.images.wish

        def show_after(event: Callable[..., Any]) -> None:
            """The images first, for they are there at once; then the methods' cards, which ask the host."""
            self.methods.show_after(self.gallery.show_after(event, hooks).then, hooks, wish)

        self.methods.wire(show_after)
        self.images.wire(show_after)
        show_after(hooks.look.click)
        self.methods.show_after(hooks.first.click, hooks, wish)
        self.start.wire(hooks)
        self.comparison.wire(message)
        self.job.wire(hooks, message)
        self.gallery.wire(hooks, message)
        self.presets.wire(hooks, message, show_after)
        self.settings.wire(hooks, show_after)
        self.page_buttons.wire(hooks, message, self.gallery, self.methods, wish)
        self.storage.wire()
        self.refresh.wire(hooks, self.queue, self.comparison, self._bar, self._tasks)


def tab(services: Callable[[], Services]) -> gr.Blocks:
    """The tab in the WebUI; it says what is missing, and that the program runs an older version than lies on the disk."""
    return Tab(services, lambda: [*filter(None, [loaded_files.outdated()]), *requirements.problems()], in_webui=True).build()
