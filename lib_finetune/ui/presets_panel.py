"""Presets, and settings from and to files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.ui import html, status
from lib_finetune.ui.components import QUICK, guarded, own
from lib_finetune.ui.page_state import PageChange

if TYPE_CHECKING:
    from lib_finetune.app.presets import Presets
    from lib_finetune.app.settings_files import SettingsFiles
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.settings_form import SettingsForm

_log = logging.getLogger(__name__)
_BUTTONS = {"load_preset": "Use", "save_preset": "Save", "delete_preset": "Delete", "reset": "Reset all"}


class PresetsPanel:
    """Above the settings that they fill."""

    _preset: gr.Dropdown
    _name: gr.Textbox
    _export: gr.Button
    _exported: gr.File

    def __init__(
        self, presets: Callable[[], Presets], settings_files: Callable[[], SettingsFiles], settings: SettingsForm, answers: Answers
    ) -> None:
        self._presets = presets
        self._settings_files = settings_files
        self._settings = settings
        self._answers = answers
        self._buttons: dict[str, gr.Button] = {}

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        with gr.Row(elem_id="finetune_presets"):
            self._preset = own(gr.Dropdown([], label="Preset", value=None, elem_id="finetune_preset"))
            self._name = own(gr.Textbox(label="Save these settings as", max_lines=1, elem_id="finetune_preset_name"))
            for name, label in _BUTTONS.items():
                self._buttons[name] = own(gr.Button(label, size="sm", elem_id=f"finetune_{name}"))
            self._export = own(gr.Button("Export", size="sm", elem_id="finetune_export"))
            label = "Import settings: exported ones, or a LoRA, embedding or checkpoint made here"
            gr.HTML(html.drop("settings/file", label, page_key()), elem_id="finetune_import")
            self._exported = own(gr.File(label="Exported settings", visible=False, interactive=False, elem_id="finetune_exported"))

    def wire(self, hooks: PageHooks, message: gr.HTML, after_change: Callable[[Callable[..., Any]], None]) -> None:
        """
        Args:
            after_change: as `SettingsForm.wire`.
        """
        everything = self._settings.components
        names, filled = [self._preset, message], [message, *everything]
        for event in (
            self._buttons["load_preset"].click(guarded(self.use), [self._preset, *everything], filled, **QUICK),
            self._buttons["reset"].click(guarded(self.reset), everything, filled, **QUICK),
        ):
            after_change(event.then)
        self._buttons["save_preset"].click(guarded(self.save), [self._name, *everything], names, **QUICK)
        self._buttons["delete_preset"].click(guarded(self.delete), [self._preset], names, **QUICK)
        self._export.click(guarded(self.export), everything, [self._exported, message], **QUICK)
        hooks.first.click(guarded(self.names), [], [self._preset], **QUICK)

    def use(self, name: str, *values: Any) -> tuple[Any, ...]:
        """Fill the form with a preset."""

        def change() -> PageChange:
            settings = self._presets().with_preset(name or "", self._settings.settings(values))
            return PageChange(f"Preset {name} is in the form.", settings)

        return self._settings.filled(values, change)

    def reset(self, *values: Any) -> tuple[Any, ...]:
        """Fill the form with the defaults."""

        def change() -> PageChange:
            settings = self._presets().defaults(self._settings.settings(values))
            return PageChange("All further settings are at their defaults.", settings)

        return self._settings.filled(values, change)

    def save(self, name: str, *values: Any) -> tuple[Any, str]:
        """Keep what is in the form as a preset."""

        def run() -> str:
            return status.note(f"Saved as {self._presets().save(name, self._settings.settings(values))}.")

        message = self._answers.of(run)
        return self.names(), message

    def delete(self, name: str) -> tuple[Any, str]:
        """Delete a preset."""

        def run() -> str:
            self._presets().delete(name or "")
            return status.note(f"{name} is deleted.")

        message = self._answers.of(run)
        return self.names(), message

    def names(self) -> Any:
        """An update of the list."""
        try:
            return gr.update(choices=self._presets().names())
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("Presets cannot be listed", exc_info=True)
            return gr.update()

    def export(self, *values: Any) -> tuple[Any, str]:
        """Offer what is in the form as a file."""
        file: list[str] = []

        def run() -> str:
            file.append(str(self._settings_files().export(self._settings.settings(values))))
            return ""

        message = self._answers.of(run)
        return (gr.update(value=file[0], visible=True) if file else gr.update()), message
