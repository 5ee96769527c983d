"""Beside other extensions: how they are switched on, and what counts as a difference."""

import dataclasses

import pytest

from bench.webui import neighbours
from bench.webui.neighbours import NEIGHBOURS, Neighbour, Results, always_on, differences, failure_of, last_in, main, switched
from bench.webui.world import LeftOut

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
        ({"person": [b"image", b"other", *[b"image"] * 4]}, "the person's image made again before a training"),
        ({"person": [b"image"] * 5 + [b"other"]}, "the person's image after DreamBooth"),
        ({"person": [b"image"] * 2 + [b"other"] + [b"image"] * 3}, "the person's image during the LoRA"),
    ],
)
def test_each_thing_that_is_not_equal_is_named(changes, named):
    assert differences(_results(), _results()) == []
    assert differences(_results(), _results(**changes)) == [named]


def test_the_images_of_a_person_differ_from_the_bare_ones_because_the_extension_is_on():
    assert differences(_results(), _results(person=[b"tuned"] * 6)) == []


def test_values_without_labels_are_given_as_they_are_with_an_image():
    wanted = Neighbour("net", units={"ControlNet": [{"enabled": True, "image": "an image"}]})
    assert always_on([], wanted, "iVBOR") == {"ControlNet": {"args": [{"enabled": True, "image": "iVBOR"}]}}


LOG = """Loading weights
 50%|#####     | 1/2 [00:00<00:00]*** Error loading script: merger.py
    Traceback (most recent call last):
      File "/w/modules/scripts.py", line 515, in load_scripts
      File "/d/extensions/merger/scripts/merger.py", line 3, in <module>
        import sklearn
    ModuleNotFoundError: No module named 'sklearn'

---
Startup time: 3 s
"""


def test_an_error_in_the_log_belongs_to_the_extension_whose_file_it_goes_through():
    assert failure_of([Neighbour("other"), Neighbour("merger")], LOG) == "merger: ModuleNotFoundError: No module named 'sklearn'"
    assert failure_of([Neighbour("merge")], LOG) is None
    assert failure_of([Neighbour("merger")], "Loading weights\n/d/extensions/merger/ is there\n") is None


@pytest.fixture
def tried(tmp_path, monkeypatch, capsys):
    """Runs the command for the first two extensions, of which the named ones are there; gives its exit code and what it printed."""

    def run(outcomes, *there, more=()):
        def beside(_, together, *__):
            outcome = outcomes.get(" + ".join(each.folder for each in together), _results())
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(neighbours, "beside", beside)
        for folder in there:
            (tmp_path / folder).mkdir()
        places = [f"--{name}={tmp_path}" for name in ("webui", "python", "checkpoint", "extensions")]
        code = main([*places, *more, "--only", FIRST, SECOND])
        return code, capsys.readouterr().out

    return run


FIRST, SECOND = (each.folder for each in NEIGHBOURS[:2])


def test_extensions_that_are_not_there_are_left_out_by_name(tried):
    code, printed = tried({}, FIRST)
    assert code == 0
    assert f"| {FIRST} | equal |" in printed and f"| {SECOND} | left out: it does not lie in the folder" in printed
    assert "together" not in printed


def test_an_extension_that_does_not_load_is_left_out_with_the_reason_and_does_not_stand_beside_the_others(tried):
    code, printed = tried({FIRST: LeftOut("it does not load: no sklearn"), f"{FIRST} + {SECOND}": RuntimeError("no")}, FIRST, SECOND)
    assert code == 0
    assert f"| {FIRST} | left out: it does not load: no sklearn |" in printed and f"| {SECOND} | equal |" in printed


@pytest.mark.parametrize("wrong", [_results(lora={}), AssertionError("the run failed")])
def test_a_difference_or_an_error_fails_and_the_others_still_have_their_turn(tried, wrong):
    code, printed = tried({FIRST: wrong}, FIRST, SECOND)
    assert code == 1
    assert f"| {FIRST} | equal" not in printed and f"| {SECOND} | equal |" in printed and "| all 2 together | equal |" in printed


def test_all_at_once_alone_is_a_choice(tried):
    code, printed = tried({}, FIRST, SECOND, more=["--together"])
    assert code == 0 and "| all 2 together | equal |" in printed and f"| {FIRST} |" not in printed


def test_an_extension_that_changes_nothing_or_fails_says_so_beside_the_outcome(tried):
    _, printed = tried({FIRST: _results(switched_on=False), SECOND: _results(failure="b: KeyError: 'c'")}, FIRST, SECOND)
    assert f"| {FIRST} | equal (it changes nothing in the person's image) |" in printed
    assert f"| {SECOND} | equal (it failed: b: KeyError: 'c') |" in printed


def test_of_extensions_that_fail_with_one_another_the_last_in_the_log_stays_off():
    both = [Neighbour("a"), Neighbour("b")]
    log = 'File "/x/extensions/b/hook.py", line 1\n  File "/x/extensions/a/run.py", line 2\nRuntimeError: sizes\n'
    assert last_in(both, log) == "a" and last_in(both, 'File "/x/modules/processing.py"') is None
    assert switched(both, ["a"]) == [both[1]]


def test_an_image_as_it_is_after_a_plain_one_is_no_difference_of_ours_and_any_other_is():
    bare = _results()
    carried = _results(person=[b"image"] * 3 + [b"after"] + [b"image"] * 2, after_plain=b"after")
    assert differences(bare, carried) == []
    assert differences(bare, dataclasses.replace(carried, after_plain=b"another")) == ["the person's image after the LoRA"]
