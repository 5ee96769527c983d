"""The form of all settings, and the tab's answers."""

import importlib.util

import pytest

from tests.fakes.runs import Bench

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio belongs to the WebUI's library set")


@pytest.fixture
def tab(tmp_path):
    from lib_finetune.jobs import Jobs
    from lib_finetune.ui.tab import Tab

    jobs = Jobs(Bench(tmp_path).host())
    made = Tab(lambda: jobs, list)
    made.build()
    return made, jobs


def test_every_setting_is_on_the_first_screen_or_under_more(tab):
    from lib_finetune.config import codec
    from lib_finetune.ui.form import ON_TOP

    assert set(tab[0]._paths) | set(ON_TOP) | {"method"} == set(codec.all_leaves())


def test_the_defaults_of_the_form_are_the_defaults_of_the_settings():
    import gradio as gr

    from lib_finetune.config.settings import Settings
    from lib_finetune.ui import form

    with gr.Blocks():
        components = form.more_settings()[0]
    values = [component.value for component in components.values()]
    assert form.settings_from(list(components), values, {}) == Settings()


def test_wrong_input_becomes_a_message_and_nothing_starts(tab):
    made, jobs = tab
    answer = made._train("lora", "/nowhere", None, "", "", "a/b", *_defaults())
    assert "nowhere" in answer and "path parts" in answer and not jobs.all()


def test_text_in_a_number_field_is_named(tab):
    made, jobs = tab
    values = _defaults()
    values[made._paths.index("training.steps")] = "many"
    answer = made._train("lora", "/nowhere", None, "", "", "a/b", *values)
    assert all(text in answer for text in ("Steps: ", "many", "nowhere", "path parts")) and not jobs.all()


def test_the_panel_is_there_when_a_library_is_missing():
    from lib_finetune.ui.tab import Tab

    def broken():
        raise ImportError("No module named 'peft'")

    made = Tab(broken, lambda: ["peft is missing. Add it with: pip install --no-deps peft==0.13.2"])
    made.build()
    assert "peft" in made._poll()[0] and "pip install" in made._train("lora", "", None, "", "", "", *_defaults())


def _defaults():
    import gradio as gr

    from lib_finetune.ui import form

    with gr.Blocks():
        return [component.value for component in form.more_settings()[0].values()]


def test_an_unknown_run_to_continue_is_refused(tab):
    assert "Choose an unfinished run" in tab[0]._continue("")


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
