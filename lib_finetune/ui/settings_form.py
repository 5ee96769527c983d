"""The form that holds all settings: components filled with settings, and settings read from them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.config.applying import applies
from lib_finetune.config.settings import Settings
from lib_finetune.config.validation import validate
from lib_finetune.errors import InputError
from lib_finetune.ui import form, markup, status
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
    """The settings of the first screen, whose components other panels build, and all others in their sections.

    What gradio hands over and takes back, ``values``, is in the order of `components`.

    Attributes:
        checked: what the page's script is to show at the fields, see `facts`.
    """

    checked: gr.HTML

    def __init__(self, settings_files: Callable[[], SettingsFiles], jobs: Callable[[], Jobs], answers: Answers) -> None:
        self._settings_files = settings_files
        self._jobs = jobs
        self._answers = answers
        self._top: dict[str, Any] = {}
        self._more: dict[str, Any] = {}

    def on_top(self, name: str, component: Any) -> Any:
        """A component of the first screen, under its name in `form.TOP`."""
        self._top[name] = own(component)
        return component

    def build_head(self) -> None:
        """The search field, the changed settings, and the sections' names; the page's script fills and follows them."""
        gr.HTML(markup.render("settings_head", sections=form.SECTIONS, facts=form.field_facts()), elem_id="finetune_settings_head")

    def build(self) -> None:
        """The fields, and what is said at them."""
        self._more = form.more_settings()
        self.checked = gr.HTML(_checked_html(self.facts(self.shown(Settings()))), elem_id="finetune_checked")

    def wire(self, hooks: PageHooks, after_change: Callable[[Callable[..., Any]], None]) -> None:
        """The settings of the last training come into a fresh page.

        Args:
            after_change: called with an event's method, has what belongs to the form follow that event.
        """
        last = hooks.first.click(guarded(self.untouched_and_last), [], [hooks.restored], **QUICK)
        # In the browser, at once: what has been typed until now stays. Gradio hands the script what the outputs hold, behind the inputs.
        restored = last.then(None, [hooks.restored], self.components, _js=_RESTORE)
        after_change(restored.then)

    @property
    def components(self) -> list[Any]:
        """All of them."""
        return [*(self._top[name] for name in form.TOP), *self._more.values()]

    @property
    def paths(self) -> list[str]:
        """Dotted paths of the settings that are not on the first screen."""
        return list(self._more)

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

    def facts(self, values: Sequence[Any], automatic: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What is to be shown at the fields, by element id.

        "off": those that do not apply now; None where the form cannot be read. "auto": what an empty field stands for. "problems": what is
        wrong with a value.

        Args:
            automatic: value of each setting that is left automatic, by path.
        """
        auto = {form.element(path): text for path, text in (automatic or {}).items()}
        try:
            settings = form.settings_from(self.paths, values[len(form.TOP) :], _top_of(tuple(values)))
        except InputError as error:
            return {"off": None, "auto": auto, "problems": self._at_fields(error)}
        off = [form.element(path) for path in self.paths if not applies(settings, path)]
        try:
            validate(settings)
        except InputError as error:
            return {"off": off, "auto": auto, "problems": self._at_fields(error)}
        return {"off": off, "auto": auto, "problems": {}}

    def checked_html(self, values: Sequence[Any], automatic: Mapping[str, str] | None = None) -> str:
        """`facts`, where the page's script finds them."""
        return _checked_html(self.facts(values, automatic))

    def _at_fields(self, error: InputError) -> dict[str, str]:
        """What is wrong below the first screen, whose fields have their own place for it."""
        return {form.element(problem.field): problem.message for problem in error.problems if problem.field in self._more}

    def untouched_and_last(self) -> str:
        """What the form shows at first, and what it would show with the settings of the last training, as JSON."""
        try:
            return json.dumps([self.shown(Settings()), self.shown(self._settings_files().last())])
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("The last settings cannot be shown", exc_info=True)
            return ""


def _top_of(values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(form.TOP.values(), values, strict=False))


def _checked_html(facts: Mapping[str, Any]) -> str:
    return markup.render("checked", facts=json.dumps(facts))
