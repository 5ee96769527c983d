"""The form's components, made from the settings tree."""

import pytest

pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")


def test_the_defaults_of_the_form_are_the_defaults_of_the_settings():
    import gradio as gr

    from lib_finetune.config.settings import Settings
    from lib_finetune.ui import form

    with gr.Blocks():
        components = form.more_settings()[0]
    values = [component.value for component in components.values()]
    assert form.settings_from(list(components), values, {}) == Settings()


def test_a_method_shows_its_own_part_only():
    from lib_finetune.config.settings import METHODS
    from lib_finetune.ui import form

    shown = {method: [update["visible"] for update in form.shown_parts(method)] for method in METHODS}
    assert shown == {
        "lora": [True, False, False],
        "dreambooth": [False, True, False],
        "textual_inversion": [False, False, True],
        "pivotal_tuning": [True, False, True],
    }
