"""The form's components, made from the settings tree."""

import pytest

pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")


def test_the_defaults_of_the_form_are_the_defaults_of_the_settings():
    import gradio as gr

    from lib_finetune.config.settings import Settings
    from lib_finetune.ui import form

    with gr.Blocks():
        components = form.more_settings()
    values = [component.value for component in components.values()]
    assert form.settings_from(list(components), values, {}) == Settings()


def test_a_method_shows_its_own_settings_only():
    from lib_finetune.config.applying import applies
    from lib_finetune.config.fields import replaced
    from lib_finetune.config.settings import METHODS, Settings

    asked = {
        "network.rank": ("lora", "pivotal_tuning"),
        "tuning.weights": ("dreambooth",),
        "embedding.vectors": ("textual_inversion", "pivotal_tuning"),
    }
    for path, methods in asked.items():
        assert tuple(method for method in METHODS if applies(replaced(Settings(), "method", method), path)) == methods


def test_every_setting_stands_in_one_section_and_the_rest_under_expert():
    from lib_finetune.config import codec
    from lib_finetune.ui import form

    paths = [path for section in form.sections().values() for path in section]
    assert len(set(paths)) == len(paths) and set(paths) == set(codec.all_leaves()) - set(form.ON_TOP)
    turned_by_nobody = {
        "objective.timestep_min",
        "objective.huber_c",
        "optimizer.restarts",
        "optimizer.power",
        "network.begin",
        "tuning.format",
        "network.factor",
    }
    assert turned_by_nobody <= set(form.sections()["expert"])


def test_sliders_have_bounds_and_cannot_be_automatic():
    from lib_finetune.config import codec
    from lib_finetune.ui import form

    leaves = [codec.all_leaves()[path] for path in form.SLIDERS]
    assert all(leaf.about.low is not None and leaf.about.high is not None and not leaf.optional for leaf in leaves)
    assert not any("rate" in leaf.path.rpartition(".")[2] for leaf in leaves)


def test_aliases_belong_to_settings_and_find_the_learning_rate():
    from lib_finetune.config import codec
    from lib_finetune.config.aliases import ALIASES

    assert set(ALIASES) <= set(codec.all_leaves()) and {"lr", "unet_lr", "learning_rate"} <= set(ALIASES["optimizer.unet_rate"])
    for word, path in {"network_dim": "network.rank", "train_batch_size": "training.batch", "max_train_steps": "training.steps"}.items():
        assert [each for each, names in ALIASES.items() if word in names] == [path]


def test_the_script_is_told_where_each_field_begins():
    import json

    from lib_finetune.ui import form

    facts = json.loads(form.field_facts())
    assert facts["finetune_optimizer_unet_rate"]["section"] == "learning" and facts["finetune_objective_huber_c"]["section"] == "expert"
    assert facts["finetune_optimizer_unet_rate"]["value"] == "" and "lr" in facts["finetune_optimizer_unet_rate"]["aliases"].split()
    assert (facts["finetune_network_rank"]["value"], facts["finetune_network_rank"]["number"]) == (16, True)
    assert (facts["finetune_data_flip"]["value"], facts["finetune_data_flip"]["number"]) == (False, False)
    assert form.element("data.images") == "finetune_images"


def test_a_sweep_goes_over_numbers_and_choices_below_the_first_screen():
    from lib_finetune.ui import form

    offered = [form.swept_path(shown) for shown in form.swept()]
    assert {"network.rank", "optimizer.unet_rate", "optimizer.name"} <= set(offered)
    assert not {*form.ON_TOP, "data.trigger", "training.gradient_checkpointing"} & set(offered)


def test_keep_is_asked_for_where_files_are_saved_on_the_way():
    from lib_finetune.config.applying import applies
    from lib_finetune.config.fields import replaced
    from lib_finetune.config.settings import Settings

    assert not applies(Settings(), "saving.keep")
    for path in ("saving.every_steps", "saving.every_epochs"):
        assert applies(replaced(Settings(), path, 2), "saving.keep")
