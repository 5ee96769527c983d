"""The form of all settings, and the tab's answers."""

import importlib.util

import pytest

from lib_finetune.config.settings import Settings
from tests.fakes.runs import Bench, settings

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio belongs to the WebUI's library set")


@pytest.fixture
def tab(tmp_path):
    from lib_finetune.app.services import services_of
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui.tab import Tab

    services = services_of(Jobs(Bench(tmp_path).host()))
    made = Tab(lambda: services, list)
    made.build()
    return made, services


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
    made, services = tab
    answer = made._train({}, *_filled(images="/nowhere", name="a/b"))
    assert "nowhere" in answer and "path parts" in answer and not services.jobs.known.all()


def test_text_in_a_number_field_is_named(tab):
    made, services = tab
    answer = made._train({}, *_filled(images="/nowhere", name="a/b", training_steps="many"))
    assert all(text in answer for text in ("Steps: ", "many", "nowhere", "path parts")) and not services.jobs.known.all()


def test_the_panel_is_there_when_a_library_is_missing():
    from lib_finetune.ui.tab import Tab

    def broken():
        raise ImportError("No module named 'peft'")

    made = Tab(broken, lambda: ["peft is missing. Add it with: pip install --no-deps peft==0.13.2"])
    made.build()
    assert "peft" in made._poll({})[0] and "pip install" in made._train({}, *_filled())
    assert made._last() == "" and made._measure().startswith('<div class="finetune-problems"')


def _names():
    from lib_finetune.ui import form

    return form.TOP


def _filled(**values):
    """What the form holds at first, with other values by the name of the component."""
    from lib_finetune.config import codec
    from lib_finetune.config.settings import Settings
    from lib_finetune.ui import form

    paths = [path for path in codec.all_leaves() if path not in form.ON_TOP]
    names = [*form.TOP, *(path.replace(".", "_") for path in paths)]
    first = dict(zip(names, form.values_of(Settings(), paths), strict=True))
    return [*{**first, **values}.values()]


def test_the_form_gives_back_the_settings_that_it_was_filled_with(tab):
    from lib_finetune.config import codec
    from lib_finetune.config.settings import Settings

    changes = {"data.drawn": "true", "data.kind": "person", "training.steps": "7", "embedding.rate": "0.001", "data.flip": "true"}
    settings = codec.with_values(Settings(), changes.items())
    assert tab[0]._settings(tuple(tab[0]._filled(settings))) == settings


def test_what_was_trained_last_is_restored_without_its_name(tab):
    import json

    made, services = tab
    services.settings_files.keep_last(settings(services.host.paths.data, {"network.rank": "3"}))
    untouched, last = json.loads(made._last())
    assert untouched == made._filled(Settings())
    found = made._settings(tuple(last))
    assert found.network.rank == 3 and found.name == "" and found.data.trigger == "zxq"


def test_a_page_shows_only_what_has_changed(tab):
    made, _ = tab
    page = {}
    first, second = made._poll(page), made._poll(page)
    assert "press Train" in first[0] and all(not isinstance(part, str) for part in second)


def test_actions_of_the_page_are_done_or_refused_in_words(tab):
    import json

    made, services = tab
    values = _filled()

    def act(do, **given):
        return made._act(json.dumps({"do": do, "given": given}), {}, *values)

    services.jobs.hold()
    job = services.jobs.submit(settings(services.host.paths.data.parent.parent / "pictures", {"name": "dog"}))
    assert "dog-2 waits" in act("clone", job=job.folder.name)[0]
    assert act("cancel", job=job.folder.name)[0] == "" and job.state == "discarded"
    assert "no job" in act("cancel", job="nobody")[0] and "does not know" in act("fly")[0]
    assert "cannot be read" in made._act("{", {}, *values)[0]
    filled = act("again", job=job.folder.name)[1:]
    assert made._settings(tuple(filled)).data.trigger == "zxq"
    reset = act("default", path="network.rank")
    assert len(reset) == 1 + len(values)


def test_train_says_what_becomes_of_the_job(tab, monkeypatch):
    made, services = tab
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    services.jobs.hold()
    images = str(services.host.paths.data.parent.parent / "pictures")
    said = made._train({}, *_filled(images=images, trigger="zxq", name="one", data_resolution="64", preview_enabled=False))
    assert "one waits: the queue is held" in said
    services.jobs.held = False
    said = made._train({}, *_filled(images=images, trigger="zxq", name="two", data_resolution="64", preview_enabled=False))
    assert "two waits in the queue; 1 before it" in said
    services.jobs.hold()
    for job in services.jobs.known.waiting():
        services.jobs.cancel(job.folder.name)


def test_the_checkpoint_of_a_job_is_selected_in_words(tab, monkeypatch):
    import json
    from types import SimpleNamespace

    made, services = tab
    monkeypatch.setattr(
        services.jobs.known, "find", lambda name: SimpleNamespace(folder=SimpleNamespace(name=name), settings=SimpleNamespace(name="dog"))
    )
    monkeypatch.setattr(services.results, "select", lambda name: object())
    said = made._act(json.dumps({"do": "select", "given": {"job": "x"}}), {}, *_filled())[0]
    assert "dog is loaded before the next training begins" in said


def test_other_settings_in_the_form_show_their_own_pictures(tab):
    import json

    made, services = tab
    services.jobs.hold()
    job = services.jobs.submit(settings(services.host.paths.data.parent.parent / "pictures", {"name": "own"}))
    page = {}
    assert made._look_if_filled(page, *_filled())[0] == {"__type__": "generic_update"}
    filled = made._act(json.dumps({"do": "edit", "given": {"job": job.folder.name}}), page, *_filled())[1:]
    assert "3 pictures" in made._look_if_filled(page, *filled)[0] and "filled" not in page
    services.jobs.cancel(job.folder.name)


def test_a_job_that_is_edited_can_get_another_name(tab):
    import json

    made, services = tab
    services.jobs.hold()
    images = services.host.paths.data.parent.parent / "pictures"
    first, second = (services.jobs.submit(settings(images, {"name": name})) for name in ("first", "second"))
    page = {}
    filled = made._act(json.dumps({"do": "edit", "given": {"job": first.folder.name}}), page, *_filled())[1:]
    name = list(_names()).index("name")
    assert "running or waits already" in made._train(page, *filled[:name], "second", *filled[name + 1 :])
    said = made._train(page, *filled[:name], "renamed", *filled[name + 1 :])
    assert "renamed waits with its new settings" in said and page["editing"] == ""
    assert [job.settings.name for job in services.jobs.known.waiting()] == ["renamed", "second"] and services.jobs.known.waiting()[
        0
    ] is first
    for job in (first, second):
        services.jobs.cancel(job.folder.name)


def test_what_does_not_apply_is_hidden(tab):
    made, _ = tab
    from lib_finetune.ui import form

    hidden = dict(zip(form.conditional(made._paths), made._applying(*_filled()), strict=True))
    shown = dict(zip(form.conditional(made._paths), made._applying(*_filled(network_conv_rank="4")), strict=True))
    assert hidden["network.conv_alpha"]["visible"] is False and shown["network.conv_alpha"]["visible"] is True


def test_the_pictures_and_cards_follow_the_form(tab):
    made, services = tab
    images = str(services.host.paths.data.parent.parent / "pictures")
    found, shown, asks = made._look({}, *_filled(images=images, kind="person"))
    assert "3 pictures" in found and shown.count("<figure") == 3 and asks["visible"]
    assert made._look({}, *_filled(images="/nowhere"))[0].startswith('<div class="finetune-problems"')
    html = made._cards({}, "a small file", *_filled(images=images, kind="thing"))
    assert "Textual Inversion ★" in html and "3 pictures of a thing, a small file" in html


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


@pytest.mark.parametrize("button", ["_keep", "_discard", "_load_checkpoint"])
def test_a_button_means_the_job_that_the_page_shows(tab, monkeypatch, button):
    made, services = tab
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    images = services.host.paths.data.parent.parent / "pictures"
    shown, running = (services.jobs.submit(settings(images, {"name": name})) for name in ("shown", "running"))
    shown.state = "running"
    page = {}
    made._poll(page)
    assert page["shown"] == shown.folder.name
    shown.state, running.state = "done", "running"  # between two looks of the page
    assert "shown has ended already" in getattr(made, button)(page)
    assert not running.control.stop_asked() and not running.control.load_asked() and not shown.control.stop_asked()
    made._poll(page)
    assert getattr(made, button)(page) == "" and (running.control.stop_asked() or running.control.load_asked())


@pytest.mark.parametrize("name", ["pause", "preview", "save"])
def test_the_other_buttons_too(tab, monkeypatch, name):
    made, services = tab
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    images = services.host.paths.data.parent.parent / "pictures"
    shown, running = (services.jobs.submit(settings(images, {"name": each})) for each in ("shown", "running"))
    page, running.state = {"shown": shown.folder.name}, "running"
    made._control(name)(page)
    assert getattr(shown.control, f"{name}_asked")() and not getattr(running.control, f"{name}_asked")()
