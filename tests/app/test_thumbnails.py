"""Small copies of images, made once."""

import io
import os

import pytest
from PIL import Image

from lib_finetune.app.thumbnails import Thumbnails, cover
from lib_finetune.errors import InputError
from lib_finetune.jobs.job import Job
from tests.fakes.runs import settings


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (900, 600), "red").save(path)
    return path


def test_the_longer_side_is_what_was_asked_for(tmp_path, picture):
    small = Image.open(io.BytesIO(Thumbnails(tmp_path).of(picture, 90)))
    assert (small.size, small.format) == ((90, 60), "JPEG")


def test_it_is_made_once_and_anew_when_the_image_has_changed(tmp_path, picture, monkeypatch):
    thumbnails, opened = Thumbnails(tmp_path), []
    real = Image.open
    monkeypatch.setattr("lib_finetune.app.thumbnails.Image.open", lambda path: opened.append(path) or real(path))
    first = thumbnails.of(picture)
    assert thumbnails.of(picture) == first == Thumbnails(tmp_path).of(picture) and len(opened) == 1
    Image.new("RGB", (900, 600), "blue").save(picture)
    os.utime(picture, ns=(1, 1))
    assert thumbnails.of(picture) != first and len(opened) == 2


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_an_image_that_is_gone_or_broken_is_named(tmp_path, content):
    path = tmp_path / "b.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.png is gone or cannot be read"):
        Thumbnails(tmp_path).of(path)


def test_a_disk_that_cannot_be_written_shows_it_all_the_same(tmp_path, picture):
    (tmp_path / "thumbnails").write_text("a file where the folder would be")
    assert Thumbnails(tmp_path).of(picture)


def test_a_job_is_stood_for_by_its_last_preview_then_by_its_first_image(tmp_path, picture):
    job = Job(settings(tmp_path), tmp_path / "run")
    assert cover(job) == picture
    for step in ("000000", "000100"):
        for number in ("00.png", "01.png"):
            place = job.folder / "previews" / step / number
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"")
    assert cover(job) == job.folder / "previews" / "000100" / "00.png"
    assert cover(Job(settings(tmp_path / "nowhere"), tmp_path / "other")) is None
