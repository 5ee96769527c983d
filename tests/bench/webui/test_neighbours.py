"""Beside other extensions: how they are switched on, and what counts as a difference."""

import dataclasses

import pytest

from bench.webui.neighbours import NEIGHBOURS, Neighbour, Results, always_on, differences, main

SCRIPTS = [
    {"name": "cd tuner", "is_img2img": True, "args": []},
    {
        "name": "cd tuner",
        "is_img2img": False,
        "args": [
            {"label": "CD Tuner", "value": False},
            {"label": "Detail(d1)", "value": 0.0},
            {"label": "Model 1", "value": "None", "choices": ["None", "cat(1234)", "neighbour(5678)"]},
        ],
    },
]


def test_an_extension_is_switched_on_by_the_labels_of_its_controls_and_all_others_keep_their_default():
    wanted = Neighbour("cd", {"CD Tuner": {"CD Tuner": True, "Model 1": "neighbour*"}})
    assert always_on(SCRIPTS, wanted) == {"CD Tuner": {"args": [True, 0.0, "neighbour(5678)"]}}


@pytest.mark.parametrize(("controls", "named"), [({"Other": {}}, "cd tuner"), ({"CD Tuner": {"Detail": 1}}, "Detail(d1)")])
def test_a_script_or_control_that_is_not_there_is_named_with_those_that_are(controls, named):
    with pytest.raises(KeyError) as caught:
        always_on(SCRIPTS, Neighbour("cd", controls))
    assert named in str(caught.value)


def _results(**changes):
    return dataclasses.replace(Results({"a": b"1"}, {"b": b"2"}, [b"p"], [b"c"], [b"image"] * 6), **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lora": {"a": b"0"}}, "LoRA"),
        ({"dreambooth": {}}, "DreamBooth"),
        ({"previews": []}, "previews"),
        ({"classes": [b"d"]}, "class images"),
        ({"person": [b"image"] * 5 + [b"other"]}, "the person's image after DreamBooth"),
        ({"person": [b"image"] * 2 + [b"other"] + [b"image"] * 3}, "the person's image during the LoRA"),
    ],
)
def test_each_thing_that_is_not_equal_is_named(changes, named):
    assert differences(_results(), _results()) == []
    assert differences(_results(), _results(**changes)) == [named]


def test_the_images_of_a_person_differ_from_the_bare_ones_because_the_extension_is_on():
    assert differences(_results(), _results(person=[b"tuned"] * 6)) == []


def test_extensions_that_are_not_there_are_left_out_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bench.webui.neighbours.beside", lambda *_: _results())
    (tmp_path / NEIGHBOURS[0].folder).mkdir()
    places = [f"--{name}={tmp_path}" for name in ("webui", "python", "checkpoint", "extensions")]
    assert main([*places, "--only", NEIGHBOURS[0].folder, NEIGHBOURS[1].folder]) == 0
    printed = capsys.readouterr().out
    assert f"| {NEIGHBOURS[0].folder} | equal |" in printed and f"| {NEIGHBOURS[1].folder} | left out" in printed
