"""The form that holds all settings: components filled with settings, and settings read from them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.config.settings import Settings
from lib_finetune.errors import FinetuneError, InputError
from lib_finetune.ui import form, status
from lib_finetune.ui.components import QUICK, guarded, own

if TYPE_CHECKING:
    from lib_finetune.app.settings_files import SettingsFiles
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.page_state import PageChange

_log = logging.getLogger(__name__)
_RESTORE = """(told, ...now) => {
    const [untouched, last] = JSON.parse(told || "[null, null]");
    return last && JSON.stringify(now) === JSON.stringify(untouched) ? last : now;
}"""


class SettingsForm:
    """The settings of the first screen, whose components other panels build, and those below "More settings".

    What gradio hands over and takes back, ``values``, is in the order of `components`.
    """

    def __init__(self, settings_files: Callable[[], SettingsFiles], jobs: Callable[[], Jobs], answers: Answers) -> None:
        self._settings_files = settings_files
        self._jobs = jobs
        self._answers = answers
        self._top: dict[str, Any] = {}
        self._more: dict[str, Any] = {}
        self._sections: dict[str, Any] = {}

    def on_top(self, name: str, component: Any) -> Any:
        """A component of the first screen, under its name in `form.TOP`."""
        self._top[name] = own(component)
        return component

    def build(self) -> None:
        """Those below "More settings", and their defaults for the page's script."""
        self._more, self._sections = form.more_settings()
        defaults = escape(form.defaults(self.paths))
        gr.HTML(f'<div id="finetune_defaults" data-defaults="{defaults}" hidden></div>', visible=True)

    def wire(self, hooks: PageHooks, after_change: Callable[[Callable[..., Any]], None]) -> None:
        """What does not apply is not there: looked at whenever something changes that others depend on.

        Args:
            after_change: called with an event's method, has what belongs to the form follow that event.
        """
        method = self._top["method"]
        for component in (method, *self._more.values()):
            event = component.blur if isinstance(component, gr.Textbox) else component.change
            event(guarded(self.applying), self.components, self._conditional(), **QUICK)
        last = hooks.first.click(guarded(self.untouched_and_last), [], [hooks.restored], **QUICK)
        # In the browser, at once: what has been typed until now stays. Gradio hands the script what the outputs hold, behind the inputs.
        restored = last.then(None, [hooks.restored], self.components, _js=_RESTORE)
        after_change(restored.then)

    def wire_sections(self) -> None:
        """A method's own sections are shown with it."""
        self._top["method"].change(guarded(form.shown_parts), [self._top["method"]], list(self._sections.values()), **QUICK)

    def then_hide(self, filled: Any) -> Any:
        """After the form was filled: hide what does not apply; returns the event."""
        return filled.then(guarded(self.applying), self.components, self._conditional(), **QUICK)

    @property
    def components(self) -> list[Any]:
        """All of them."""
        return [*(self._top[name] for name in form.TOP), *self._more.values()]

    @property
    def paths(self) -> list[str]:
        """Dotted paths of the settings below "More settings"."""
        return list(self._more)

    def _conditional(self) -> list[Any]:
        return [self._more[path] for path in form.conditional(self.paths)]

    def settings(self, values: tuple[Any, ...]) -> Settings:
        """The settings in the form.

        Raises:
            InputError: what cannot be read, and folders that may not be named.
        """
        return self._settings_files().allowed(form.settings_from(self.paths, values[len(form.TOP) :], _top_of(values)))

    def settings_to_train(self, values: tuple[Any, ...]) -> Settings:
        """As `settings`; beside what cannot be read, whatever else is wrong is named too."""
        try:
            return self.settings(values)
        except InputError as unread:
            problems = list(unread.problems)
            try:
                self._jobs().check(form.settings_from([], [], _top_of(values)))
            except InputError as error:
                problems += error.problems
            raise InputError(list(dict.fromkeys(problems))) from unread

    def shown(self, settings: Settings) -> list[Any]:
        """What the components show for settings."""
        return form.values_of(settings, self.paths)

    def filled(self, values: tuple[Any, ...], change: Callable[[], PageChange]) -> tuple[Any, ...]:
        """The message of a change and the components, filled with its settings or as they are."""
        components: list[Any] = [gr.update()] * len(values)

        def run() -> str:
            outcome = change()
            if outcome.settings is not None:
                components[:] = self.shown(outcome.settings)
            return status.note(outcome.message) if outcome.message else ""

        return self._answers.of(run), *components

    def applying(self, *values: Any) -> list[Any]:
        """Updates that show the settings that apply beside the others, and hide the rest."""
        paths = form.conditional(self.paths)
        try:
            settings = self.settings(values)
        except (FinetuneError, OSError):  # said when Train is pressed
            return [gr.update()] * len(paths)
        return [gr.update(visible=applies) for applies in form.applying(settings, paths)]

    def untouched_and_last(self) -> str:
        """What the form shows at first, and what it would show with the settings of the last training, as JSON."""
        try:
            return json.dumps([self.shown(Settings()), self.shown(self._settings_files().last())])
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("The last settings cannot be shown", exc_info=True)
            return ""


def _top_of(values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(form.TOP.values(), values, strict=False))
