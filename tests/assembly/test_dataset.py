from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lib_finetune.assembly import dataset
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError
from tests.fakes.pictures import draw


def found(images, classes=""):
    pairs = {"data.images": str(images), "data.class_images": str(classes)}
    return dataset.find(codec.with_values(Settings(), pairs.items()))


def refused(images, classes):
    with pytest.raises(InputError) as caught:
        found(images, classes)
    assert [problem.field for problem in caught.value.problems] == ["data.class_images"]
    return str(caught.value)


@pytest.fixture
def pics(tmp_path):
    return draw(tmp_path / "pics")


def test_class_images_below_the_training_images_are_not_trained_on_as_the_subject(pics):
    draw(pics / "others", 2, seed=1)
    images = found(pics, pics / "others")
    assert [picture.name for picture in images.pictures] == ["0.png", "1.png", "2.png"] and len(images.classes.pictures) == 2


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/.", "{}/../pics", ' "{}" ', "file://{}"])
def test_one_folder_for_both_is_refused(pics, spelling):
    assert "is the folder of the training images" in refused(pics, spelling.format(pics))


def test_one_folder_for_both_by_a_link_is_refused(pics, tmp_path):
    (tmp_path / "link").symlink_to(pics)
    assert "is the folder of the training images" in refused(pics, tmp_path / "link")
    assert "is the folder of the training images" in refused(tmp_path / "link", pics)


def test_one_folder_for_both_by_letter_case_is_refused_where_the_system_ignores_it(pics, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "samefile", lambda one, other: str(one).lower() == str(other).lower())
    assert "is the folder of the training images" in refused(pics, tmp_path / "PICS")


def test_training_images_inside_the_folder_of_class_images_are_refused(pics, tmp_path):
    assert "holds the training images" in refused(pics, tmp_path)


def test_two_folders_beside_each_other_are_two(pics, tmp_path):
    images = found(pics, draw(tmp_path / "pics2", 2, seed=1))
    assert (len(images.pictures), len(images.classes.pictures)) == (3, 2)


def test_a_root_of_kohyas_trainers_is_no_folder_of_class_images(pics, tmp_path):
    draw(tmp_path / "root" / "img" / "10_zxq", seed=1)
    draw(tmp_path / "root" / "reg" / "1_cat", seed=2)
    assert f"Name {tmp_path / 'root' / 'reg'}" in refused(pics, tmp_path / "root")
    images = found(tmp_path / "root", tmp_path / "root" / "reg")
    assert (images.views, len(images.classes.pictures)) == (30, 3)


def test_a_training_image_among_the_class_images_is_said(pics, tmp_path):
    classes = draw(tmp_path / "classes", 2, seed=1)
    shutil.copy(pics / "0.png", classes / "copy.png")
    assert any("same files as training images" in line and "copy.png" in line for line in found(pics, classes).classes.lines())


@pytest.mark.parametrize("text", ["", "  ", '""'])
def test_no_folder_is_not_the_one_where_the_program_stands(pics, monkeypatch, text):
    monkeypatch.chdir(pics)
    with pytest.raises(InputError, match="is empty"):
        found(text)
    assert found(pics, text).classes is None
