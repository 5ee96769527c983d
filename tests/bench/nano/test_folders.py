import numpy as np
import pytest
from PIL import Image

from bench.__main__ import main
from bench.nano import folders
from lib_finetune.errors import InputError


def test_a_subject_folder_holds_pictures_with_captions(tmp_path):
    folders.write_subject(tmp_path, "winking-star")
    pictures, captions = sorted(tmp_path.glob("*.png")), sorted(tmp_path.glob("*.txt"))
    assert len(pictures) == len(captions) == 8
    assert all(path.read_text().startswith("a photo of sks star on a") for path in captions)


def test_equal_seeds_write_equal_folders(tmp_path):
    for name in ("a", "b"):
        folders.write_subject(tmp_path / name, "bee-square", count=2)
    first, second = (np.asarray(Image.open(tmp_path / name / "002.png")) for name in ("a", "b"))
    assert np.array_equal(first, second)


def test_the_measures_contexts_are_never_shown(tmp_path):
    for subject in ("winking-star", "happy-circle"):
        scenes = folders.write_subject(tmp_path / subject, subject, count=10)
        assert all(scene.ground != folders.UNSEEN_GROUND and scene.pattern != folders.UNSEEN_PATTERN for scene in scenes)


def test_style_and_class_folders(tmp_path):
    assert {scene.style for scene in folders.write_style(tmp_path / "style", "mosaic", count=3)} == {"mosaic"}
    assert {scene.shape for scene in folders.write_class(tmp_path / "class", "star", count=3)} == {"star"}
    assert (tmp_path / "style" / "001.txt").read_text().endswith(", sks style")


@pytest.mark.parametrize("write", [folders.write_subject, folders.write_style, folders.write_class])
def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path, write):
    with pytest.raises(InputError, match="there are .*(mosaic|star)"):
        write(tmp_path, "unicorn")


def test_the_command_line_writes_a_folder_and_refuses_an_unknown_subject(tmp_path, capsys):
    assert main(["nano", "subject", "bee-square", str(tmp_path / "bee"), "--count", "2"]) == 0
    assert len(list((tmp_path / "bee").glob("*.png"))) == 2
    assert main(["nano", "subject", "unicorn", str(tmp_path / "none")]) == 2
    assert "unicorn" in capsys.readouterr().err
