"""The refresh of a page: what has changed in all panels that show jobs, by one request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.errors import FinetuneError
from lib_finetune.ui import queue, shown_job, status
from lib_finetune.ui.components import QUICK, guarded
from lib_finetune.ui.page_state import PageState

if TYPE_CHECKING:
    from lib_finetune.app.comparison_grid import ComparisonGrids
    from lib_finetune.app.trainings import Trainings
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui.job_panel import JobPanel
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.queue_panel import QueuePanel

_log = logging.getLogger(__name__)
_PANELS = ("panel", "log", "outcome", "queue", "history", "sheets")
_BUTTONS = (*shown_job.CONTROLS, "load")


class Refresh:
    """Every page asks once in a while."""

    def __init__(
        self,
        jobs: Callable[[], Jobs],
        trainings: Callable[[], Trainings],
        comparison_grids: Callable[[], ComparisonGrids],
        job_panel: JobPanel,
        queue_panel: QueuePanel,
    ) -> None:
        """
        Args:
            job_panel: renders what is shown of a job.
            queue_panel: counts the jobs that wait.
        """
        self._jobs = jobs
        self._trainings = trainings
        self._comparison_grids = comparison_grids
        self._job_panel = job_panel
        self._queue_panel = queue_panel

    def wire(self, hooks: PageHooks, comparison_grids: gr.HTML) -> None:
        """
        Args:
            sheets: where the comparison grids are shown.
        """
        job, jobs = self._job_panel, self._queue_panel
        panels = [job.status_view, job.log_view, job.outcome_view, jobs.queue, jobs.history, comparison_grids]
        buttons = [job.buttons[name] for name in _BUTTONS]
        hooks.refresh.click(guarded(self.poll), [hooks.page], [*panels, *buttons, jobs.part], **QUICK)

    def poll(self, page: PageState) -> tuple[Any, ...]:
        """Updates of `_PANELS`, of `_BUTTONS` and of the queue's title; what has not changed is left alone."""
        try:
            panels, visible = self._now(page)
        except Exception as error:  # noqa: BLE001  an edge: shown or logged
            _log.debug("The status cannot be shown", exc_info=True)
            reason = str(error) if isinstance(error, FinetuneError) else f"The status cannot be shown: {error!r}"
            panels = {"panel": status.problems([reason])}
            visible = {}
        # What has not changed is not sent again: images would flicker, and what is being typed there would be lost.
        marks = {name: hash(html) for name, html in panels.items()}
        old = page.get("marks", {})
        updates = [gr.update() if name not in panels or old.get(name) == marks.get(name) else panels[name] for name in _PANELS]
        buttons = [gr.update(visible=visible.get(name, False)) for name in _BUTTONS]
        page["marks"] = {**old, **marks}
        return *updates, *buttons, self._queue_panel.title(page)

    def _now(self, page: PageState) -> tuple[dict[str, str], dict[str, bool]]:
        """(panel → its HTML, button → whether it is there)."""
        overview = self._trainings().overview(series=False)
        jobs = {job["id"]: job for job in overview["jobs"]}
        current = self._jobs().known.current()
        now = self._trainings().view(current) if current is not None and current.folder.name in jobs else None
        active = current is not None and not current.ended
        shown_job.follow(page, now, active=active)
        panels = {
            "panel": self._job_panel.status_html(now, overview, active=active),
            "log": status.log(now["log"]) if now else "",
            "outcome": self._job_panel.outcome_html(jobs.get(page.get("job", "")), page.get("feedback", "")),
            "queue": queue.queue(overview),
            "history": queue.history(overview),
            "sheets": queue.comparison_grids(self._comparison_grids().names(), overview["errands"], page_key()),
        }
        return panels, shown_job.visible_controls(now, active=active)
