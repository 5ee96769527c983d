"""Changes to the captions of many images, and the way back: no caption is lost, wherever it came from."""

import json

import pytest

from lib_finetune.app.services import services_of
from lib_finetune.errors import InputError
from lib_finetune.jobs.queue import Jobs
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, settings


@pytest.fixture
def datasets(tmp_path):
    return services_of(Jobs(Bench(tmp_path).host())).datasets


@pytest.fixture
def folder(tmp_path):
    folder = draw(tmp_path / "own", 4)
    for name, text in (("0.txt", "cat, sofa\n"), ("1.caption", "cat, red\n"), ("2.png.txt", "dog\n")):
        (folder / name).write_text(text)
    return folder


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".png"}


def test_all_captions_change_where_they_lie_and_images_without_one_stay(datasets, folder):
    assert datasets.edit_captions(settings(folder), "front", "zxq") == {"changed": 3, "without": 1}
    assert files(folder) == {"0.txt": b"zxq, cat, sofa\n", "1.caption": b"zxq, cat, red\n", "2.png.txt": b"zxq, dog\n"}


def test_only_the_chosen_images_change(datasets, folder):
    view = datasets.view(settings(folder))
    assert view["tags"][0] == {"text": "cat", "count": 2} and not view["can_undo"]
    token = next(picture["token"] for picture in view["pictures"] if picture["name"] == "1.png")
    assert datasets.edit_captions(settings(folder), "replace", "cat", "lion", [token]) == {"changed": 1, "without": 0}
    assert files(folder)["1.caption"] == b"lion, red\n" and files(folder)["0.txt"] == b"cat, sofa\n"


def test_undo_brings_every_file_back_once(datasets, folder):
    before = files(folder)
    datasets.edit_captions(settings(folder), "remove", "dog")  # its caption is empty then: the file is set aside
    assert "2.png.txt" not in files(folder) and datasets.view(settings(folder))["can_undo"]
    assert datasets.undo_captions() == 2 and files(folder) == before
    with pytest.raises(InputError, match="no change to undo"):
        datasets.undo_captions()


def test_undo_leaves_what_was_written_since(datasets, folder):
    datasets.edit_captions(settings(folder), "behind", "zxq")
    (folder / "0.txt").write_text("by hand")
    datasets.undo_captions()
    assert files(folder)["0.txt"] == b"by hand" and files(folder)["1.caption"] == b"cat, red\n"


def test_captions_of_a_table_become_files_and_the_table_stays(datasets, tmp_path):
    folder = draw(tmp_path / "table", 2)
    table = "".join(json.dumps({"file_name": f"{number}.png", "text": "cat, sofa"}) + "\n" for number in range(2))
    (folder / "metadata.jsonl").write_text(table)
    assert datasets.edit_captions(settings(folder), "remove", "sofa")["changed"] == 2
    assert (folder / "0.txt").read_text() == "cat\n" and (folder / "metadata.jsonl").read_text() == table
    datasets.undo_captions()
    assert set(files(folder)) == {"metadata.jsonl"}
    datasets.edit_captions(settings(folder), "remove", "nothing like it")
    assert set(files(folder)) == {"metadata.jsonl"}


def test_what_cannot_be_changed_is_said(datasets, folder):
    for how, text, chosen, said in (
        ("upwards", "x", (), "none of front"),
        ("front", "  ", (), "is empty"),
        ("front", "x", ("gone",), "chosen"),
    ):
        with pytest.raises(InputError, match=said):
            datasets.edit_captions(settings(folder), how, text, "", chosen)


def test_a_failure_half_way_can_be_undone(datasets, folder, monkeypatch):
    from lib_finetune.app import datasets as module
    from lib_finetune.errors import SaveError

    before, real, calls = files(folder), module.save_caption, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise SaveError("full")
        return real(*arguments)

    monkeypatch.setattr(module, "save_caption", failing)
    with pytest.raises(SaveError):
        datasets.edit_captions(settings(folder), "front", "zxq")
    assert files(folder) != before
    datasets.undo_captions()
    assert files(folder) == before
