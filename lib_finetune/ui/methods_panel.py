"""The methods side by side, one of them chosen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.config.settings import METHODS
from lib_finetune.errors import FinetuneError
from lib_finetune.ui import cards, form
from lib_finetune.ui.components import QUICK, guarded
from lib_finetune.ui.latest_only import LatestOnly
from lib_finetune.ui.page_state import PageState

if TYPE_CHECKING:
    from lib_finetune.app.method_advisor import MethodAdvisor
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.settings_form import SettingsForm

_log = logging.getLogger(__name__)


class MethodsPanel:
    """Step 3 of the first screen."""

    _method: gr.Radio
    _cards: gr.HTML

    def __init__(self, advisor: Callable[[], MethodAdvisor], settings: SettingsForm) -> None:
        self._advisor = advisor
        self._settings = settings
        self._latest = LatestOnly()

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        with gr.Group():
            choice = gr.Radio(form.method_choices(), value=METHODS[0], label="3  How?", elem_id="finetune_method")
            self._method = self._settings.on_top("method", choice)
            self._cards = gr.HTML(cards.bare(METHODS[0]), elem_id="finetune_cards")

    def wire(self, after_change: Callable[[Callable[..., Any]], None]) -> None:
        """
        Args:
            after_change: as `SettingsForm.wire`.
        """
        after_change(self._method.change)

    def show_after(self, event: Callable[..., Any], hooks: PageHooks, wish: gr.Dropdown) -> None:
        """Compare the methods anew at an event."""
        event(guarded(self.render_cards), [hooks.page, wish, *self._settings.components], [self._cards], **QUICK)

    def render_cards(self, page: PageState, wish: str, *values: Any) -> Any:
        """The methods' cards for what is in the form now."""
        with self._latest.newest(page) as newest:
            if not newest:
                return gr.update()
            try:
                settings = self._settings.settings(values)
                return cards.render(self._advisor().cards(settings, form.wish_of(wish)), settings.method)
            except FinetuneError:  # said beside the images already
                return gr.update()
            except Exception:  # noqa: BLE001  an edge: shown or logged
                _log.debug("The methods cannot be compared", exc_info=True)
                return gr.update()
