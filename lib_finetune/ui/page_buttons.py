"""The page's own buttons, which are HTML: what they ask for comes as JSON and is done by `actions`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import InputError
from lib_finetune.ui import actions
from lib_finetune.ui.components import QUICK, guarded
from lib_finetune.ui.page_state import PageState

if TYPE_CHECKING:
    import gradio as gr

    from lib_finetune.app.services import Services
    from lib_finetune.ui.gallery_panel import GalleryPanel
    from lib_finetune.ui.methods_panel import MethodsPanel
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.page_state import PageChange
    from lib_finetune.ui.settings_form import SettingsForm


class PageButtons:
    """One event for all of them."""

    def __init__(self, services: Callable[[], Services], settings: SettingsForm) -> None:
        self._services = services
        self._settings = settings

    def wire(self, hooks: PageHooks, message: gr.HTML, gallery: GalleryPanel, methods: MethodsPanel, wish: gr.Dropdown) -> None:
        """The action first; then the form, the images and the methods, which may show other settings by now."""
        everything = self._settings.components
        acted = hooks.act.click(guarded(self.act), [hooks.action, hooks.page, *everything], [message, *everything], **QUICK)
        looked = gallery.show_filled_after(acted.then, hooks)
        methods.show_after(looked.then, hooks, wish)

    def act(self, asked: str, page: PageState, *values: Any) -> tuple[Any, ...]:
        """The message and the form after a button was pressed.

        Args:
            asked: the button's name and arguments, as javascript/finetune.js writes them.
        """

        def change() -> PageChange:
            name, arguments = _parsed(asked)
            return actions.act(name, actions.Press(self._services(), page, arguments, lambda: self._settings.settings(values)))

        return self._settings.filled(values, change)


def _parsed(asked: str) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(asked or "{}")
        return str(request["do"]), dict(request.get("given") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("The page asked for something that cannot be read. Reload the page.") from error
