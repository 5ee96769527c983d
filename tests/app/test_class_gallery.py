"""Class images that were made: seen, and deleted one by one."""

import json
from pathlib import Path

import pytest

from lib_finetune.app.services import services_of
from lib_finetune.errors import InputError
from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings


@pytest.fixture
def services(tmp_path):
    services = services_of(Jobs(Bench(tmp_path).host()))
    folder = services.host.paths.data / "classes" / "abc"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"{number:05d}.png").write_bytes(b"12345")
    (folder / "about.json").write_text(json.dumps({"prompt": "a photo of dog", "checkpoint": "v1-5"}))
    (folder.parent / "empty").mkdir()
    return services


def test_they_are_listed_with_what_they_were_made_of(services):
    (only,) = services.class_images.sets()
    assert (only["folder"], only["prompt"], only["files"], only["bytes"]) == ("abc", "a photo of dog", ["00001.png", "00002.png"], 10)


def test_a_note_that_cannot_be_read_hides_no_images(services):
    (services.host.paths.data / "classes" / "abc" / "about.json").write_text("[")
    assert services.class_images.sets()[0]["prompt"] == "class images"


def test_one_is_deleted_and_the_others_stay(services):
    services.class_images.delete("abc", "00001.png")
    assert services.class_images.sets()[0]["files"] == ["00002.png"]


@pytest.mark.parametrize(("folder", "name"), [("abc", "../abc/00001.png"), ("..", "a.png"), ("abc", "about.json"), ("none", "00001.png")])
def test_nothing_else_is_deleted(services, folder, name):
    with pytest.raises(InputError, match="no class image"):
        services.class_images.delete(folder, name)
    assert len(services.class_images.sets()[0]["files"]) == 2


def test_while_a_run_waits_none_is_deleted(services):
    services.jobs.hold()
    job = services.jobs.submit(settings(Path(services.host.paths.data).parent.parent / "pictures"))
    with pytest.raises(InputError, match="may need the class images"):
        services.class_images.delete("abc", "00001.png")
    services.jobs.cancel(job.folder.name)
