"""The refresh of a page: what has changed in all panels that show jobs, by one request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.errors import FinetuneError
from lib_finetune.jobs.states import ACTIVE
from lib_finetune.ui import grids, queue, shown_job, status
from lib_finetune.ui.components import QUICK, guarded
from lib_finetune.ui.page_state import PageState

if TYPE_CHECKING:
    from lib_finetune.app.comparison_grid import ComparisonGrids
    from lib_finetune.app.services import Services
    from lib_finetune.ui.comparison_panel import ComparisonPanel
    from lib_finetune.ui.job_panel import JobPanel
    from lib_finetune.ui.library_panel import LibraryPanel
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.queue_panel import QueuePanel
    from lib_finetune.ui.tools_panel import ToolsPanel

_log = logging.getLogger(__name__)
PANELS = (
    "bar",
    "tasks",
    "panel",
    "plot",
    "film",
    "outcome",
    "queue",
    "history",
    "grid_choices",
    "sheets",
    "library",
    "class_images",
    "about",
)
_BUTTONS = (*shown_job.CONTROLS, "load")


class Refresh:
    """Every page asks once in a while, and names the place that is looked at: the others are made at their first look."""

    def __init__(
        self,
        services: Callable[[], Services],
        job_panel: JobPanel,
        library: LibraryPanel,
        tools: ToolsPanel,
    ) -> None:
        """
        Args:
            job_panel: renders the job that is shown.
            library, tools: render theirs.
        """
        self._services = services
        self._job_panel = job_panel
        self._library = library
        self._tools = tools

    def wire(self, hooks: PageHooks, queue_panel: QueuePanel, comparison: ComparisonPanel, bar: gr.HTML, tasks: gr.HTML) -> None:
        """
        Args:
            bar: what stands above all places.
            tasks: where the state of forecast and captions is shown.
        """
        panels = {
            "bar": bar,
            "tasks": tasks,
            **self._job_panel.views,
            "queue": queue_panel.queue,
            "history": queue_panel.history,
            "grid_choices": comparison.choices,
            "sheets": comparison.comparison_grids,
            "library": self._library.files,
            "class_images": self._library.class_images,
            "about": self._tools.about,
        }
        buttons = [self._job_panel.buttons[name] for name in _BUTTONS]
        hooks.refresh.click(guarded(self.poll), [hooks.page, hooks.place], [*(panels[name] for name in PANELS), *buttons], **QUICK)

    def poll(self, page: PageState, place: str = "") -> tuple[Any, ...]:
        """Updates of `PANELS` and of `_BUTTONS`; what has not changed is left alone.

        Args:
            place: the one that is looked at; "" for all.
        """
        try:
            panels, visible = self._now(page, place)
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.debug("The status cannot be shown", exc_info=True)
            reason = str(error) if isinstance(error, FinetuneError) else f"The status cannot be shown: {error!r}"
            panels = {"bar": status.problems([reason])}
            visible = {}
        # What has not changed is not sent again: images would flicker, and what is being typed there would be lost.
        marks = {name: hash(html) for name, html in panels.items()}
        old = page.get("marks", {})
        updates = [gr.update() if name not in panels or old.get(name) == marks.get(name) else panels[name] for name in PANELS]
        before = page.get("buttons")
        buttons = [
            gr.update()
            if before is not None and before.get(name) == visible.get(name, False)
            else gr.update(visible=visible.get(name, False))
            for name in _BUTTONS
        ]
        page["marks"], page["buttons"] = {**old, **marks}, {name: visible.get(name, False) for name in _BUTTONS}
        return *updates, *buttons

    def _now(self, page: PageState, place: str) -> tuple[dict[str, str], dict[str, bool]]:
        """(panel → its HTML, button → whether it is there)."""
        services = self._services()
        overview = services.trainings.overview(series=False)
        jobs = {job["id"]: job for job in overview["jobs"]}
        current = services.jobs.known.current()
        now = jobs.get(current.folder.name) if current is not None else None
        active = current is not None and not current.ended
        # After a restart no job is the current one: the one that ended last is shown.
        last = max((job for job in jobs.values() if job["ended"]), key=lambda job: job["ended"], default=None)
        shown_job.follow(page, now or last, jobs)
        shown = jobs.get(page.get("shown", ""))
        shown_active = shown is not None and shown["state"] in ACTIVE
        running = sum(job["state"] in ACTIVE for job in overview["jobs"])
        panels = {
            "bar": status.bar(now if active else None, None if active else now, running, len(overview["queue"]), overview["lost"]),
            "tasks": self._job_panel.tasks_html(overview),
        }
        if place in ("", "runs"):
            panels |= self._job_panel.shown(shown, page.get("feedback", ""), active=shown_active)
            panels["queue"] = queue.queue(overview, page_key(), page.get("shown", ""))
            panels["history"] = queue.history(overview, page_key(), page.get("shown", ""), page.get("ended", queue.ENDED_AT_ONCE))
        if place in ("", "compare"):
            panels |= _grids(services.comparison_grids, overview["errands"], page.get("tool_problems", {}).get(grids.FORM, ()))
        if place in ("", "library"):
            panels |= self._library.html()
        if place in ("", "tools"):
            panels["about"] = self._tools.html(page.get("tool_problems", {}))
        return panels, shown_job.visible_controls(shown, active=shown_active)


def _grids(service: ComparisonGrids, tasks: Sequence[Mapping[str, Any]], problems: Sequence[tuple[str, str]]) -> dict[str, str]:
    key, files = page_key(), service.names()
    return {
        "grid_choices": grids.offered(service.offered(), problems, key),
        "sheets": grids.made([(file, service.settings(file)) for file in files[: grids.SHOWN]], tasks, key),
    }
