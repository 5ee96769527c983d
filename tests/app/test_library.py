"""The files made here: listed from their folders, deleted with what lies beside them."""

import shutil
import time

import pytest

from lib_finetune.app.services import services_of
from lib_finetune.errors import InputError
from lib_finetune.jobs.queue import Jobs
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, settings


@pytest.fixture
def services(tmp_path):
    return services_of(Jobs(Bench(tmp_path).host()))


def trained(services, images, **changes):
    job = services.jobs.submit(settings(images, {path.replace("__", "."): value for path, value in changes.items()}))
    until = time.monotonic() + 120
    while not job.ended and time.monotonic() < until:
        time.sleep(0.02)
    assert job.state == "done", job.message
    return job


@pytest.fixture
def images(tmp_path):
    return tmp_path / "pictures"


def test_a_result_is_listed_by_what_its_file_and_card_tell(services, images):
    job = trained(services, images)
    job.file.with_suffix(".json").write_text('{"activation text": "zxq cat", "preferred weight": 0.7}')
    (entry,) = services.library.entries()
    assert (entry["kind"], entry["name"], entry["call"], entry["job"]) == ("lora", "cat", "<lora:cat:0.7> zxq cat", job.folder.name)
    assert entry["bytes"] == job.file.stat().st_size and entry["base"] and services.library.file(entry["token"]) == job.file


def test_files_of_others_are_not_listed(services, images):
    job = trained(services, images)
    folder = job.file.parent
    (folder / "broken.safetensors").write_bytes(b"x" * 20)
    (folder / "short.safetensors").write_bytes(b"")
    from safetensors.torch import save_file
    from torch import zeros

    save_file({"w": zeros(2)}, folder / "theirs.safetensors", {"ss_output_name": "theirs"})
    assert [entry["name"] for entry in services.library.entries()] == ["cat"]


def test_a_file_stays_in_the_library_when_its_run_is_removed_or_it_was_moved(services, images):
    job = trained(services, images)
    services.jobs.forget(job.folder.name)
    (job.file.parent / "people").mkdir()
    shutil.move(job.file, job.file.parent / "people" / "cat.safetensors")
    (entry,) = services.library.entries()
    assert entry["job"] == "" and entry["folder"].endswith("people")


def test_a_file_is_deleted_with_its_card_and_picture_and_no_other(services, images):
    job = trained(services, images)
    for end in (".json", ".png"):
        job.file.with_suffix(end).write_bytes(b"{}")
    other = job.file.with_name("cat2.png")
    other.write_bytes(b"x")
    assert services.library.delete(services.library.entries()[0]["token"]) == "cat.safetensors"
    assert (
        not job.file.exists()
        and not job.file.with_suffix(".json").exists()
        and not job.file.with_suffix(".png").exists()
        and other.exists()
    )
    assert services.library.entries() == []


@pytest.mark.parametrize("token", ["", "../../etc/passwd", "0" * 24])
def test_what_is_no_file_of_the_library_is_refused(services, token):
    for ask in (services.library.file, services.library.delete, services.library.picture):
        with pytest.raises(InputError, match="not there any more"):
            ask(token)


def test_everything_of_a_training_goes_and_the_persons_own_images_stay(services, images):
    job = trained(services, images, saving__every_steps="2")
    assert job.record.points and any((services.host.paths.data / "cache").rglob("*.safetensors"))
    assert services.library.delete_training(job.folder.name) == "cat"
    assert list(job.file.parent.glob("cat*")) == [] and not job.folder.exists() and services.jobs.known.all() == []
    assert not any((services.host.paths.data / "cache").rglob("*.safetensors")) and len(list(images.iterdir())) >= 3


def latents(services):
    return {path.name for path in (services.host.paths.data / "cache" / "latents").rglob("*.safetensors")}


def test_of_the_encoded_images_only_those_of_this_training_go(services, images, tmp_path):
    others = draw(tmp_path / "others", 3, seed=20)
    first, kept = trained(services, images), latents(services)
    second = trained(services, others, name="dog")
    assert kept and len(latents(services)) > len(kept)
    services.library.delete_training(second.folder.name)
    assert latents(services) == kept and "encoded images" in {
        part["what"] for part in services.library.everything(first.folder.name)["parts"]
    }


def test_encoded_images_that_another_training_uses_stay_until_it_goes(services, images):
    first, second = trained(services, images), trained(services, images, name="dog")
    before = latents(services)
    assert "Encoded images that another training uses stay." in services.library.everything(first.folder.name)["stays"]
    services.library.delete_training(first.folder.name)
    assert latents(services) == before
    services.library.delete_training(second.folder.name)
    assert latents(services) == set()


def test_a_training_of_an_earlier_version_leaves_what_it_did_not_note_and_says_so(services, images):
    job = trained(services, images)
    (job.folder / "used.txt").unlink()
    before = latents(services)
    assert any("earlier version" in sentence for sentence in services.library.everything(job.folder.name)["stays"])
    services.library.delete_training(job.folder.name)
    assert latents(services) == before


def test_nothing_in_common_is_deleted_while_a_run_waits(services, images, tmp_path):
    job = trained(services, images)
    services.jobs.hold()
    waiting = services.jobs.submit(settings(draw(tmp_path / "others", 3, seed=20), {"name": "dog"}))
    before = latents(services)
    assert any("may need them" in sentence for sentence in services.library.everything(job.folder.name)["stays"])
    services.library.delete_training(job.folder.name)
    assert latents(services) == before
    services.jobs.cancel(waiting.folder.name)


def test_class_images_go_with_the_last_training_that_used_them(services, images):
    whole = {"method": "dreambooth", "data__trigger": "zxq", "data__class_word": "dog", "data__class_count": "2"}
    first, second = trained(services, images, **whole, name="one"), trained(services, images, **whole, name="two")
    classes = services.host.paths.data / "classes"
    assert len(list(classes.rglob("*.png"))) == 2
    services.library.delete_training(first.folder.name)
    assert len(list(classes.rglob("*.png"))) == 2
    assert "class images" in {part["what"] for part in services.library.everything(second.folder.name)["parts"]}
    services.library.delete_training(second.folder.name)
    assert not any(classes.rglob("*.png"))


def test_what_goes_is_listed_with_its_size_and_is_what_goes(services, images):
    dropped = services.host.paths.data / "datasets" / "mine"
    shutil.copytree(images, dropped)
    job = trained(services, dropped, saving__every_steps="2")
    told = services.library.everything(job.folder.name)
    parts = {part["what"]: part for part in told["parts"]}
    assert set(parts) == {
        "results and snapshots, with card and image", "log, saved states and previews", "dropped images and captions", "encoded images",
    }  # fmt: skip
    results = [job.file, *job.file.parent.glob("cat-0*.safetensors"), *job.file.parent.glob("cat*.json")]
    assert parts["results and snapshots, with card and image"]["bytes"] == sum(file.stat().st_size for file in results)
    assert parts["dropped images and captions"]["count"] == len(list(images.iterdir())) and told["stays"] == []
    before = size_of(services.host.paths)
    services.library.delete_training(job.folder.name)
    assert before - size_of(services.host.paths) == told["bytes"] == sum(part["bytes"] for part in told["parts"])


def size_of(paths):
    folders = (paths.data / "runs", paths.data / "cache", paths.data / "datasets", paths.lora)
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def test_notes_that_somebody_changed_reach_nothing_else(services, images):
    job = trained(services, images)
    outside = services.host.paths.data / "exported" / "mine.safetensors"
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_bytes(b"x")
    with (job.folder / "used.txt").open("a") as file:
        file.write("latent ../../exported/mine\nclasses ..\nclasses ../exported\nlatent \n/etc\n")
    services.library.delete_training(job.folder.name)
    assert outside.exists() and (services.host.paths.data / "exported").is_dir()


def test_dropped_images_go_with_the_last_training_that_used_them(services, images):
    dropped = services.host.paths.data / "datasets" / "mine"
    shutil.copytree(images, dropped)
    first, second = trained(services, dropped), trained(services, dropped, name="dog")
    services.library.delete_training(first.folder.name)
    assert dropped.is_dir()
    services.library.delete_training(second.folder.name)
    assert not dropped.exists()


def test_a_record_that_names_another_file_deletes_nothing_else(services, images):
    job = trained(services, images)
    other = job.file.with_name("theirs.safetensors")
    shutil.copy(job.file, other)
    job.record.files["lora"] = str(other)
    services.library.delete_training(job.folder.name)
    assert other.exists()


def test_a_training_that_goes_on_is_not_deleted(services, images):
    services.jobs.hold()
    job = services.jobs.submit(settings(images))
    with pytest.raises(InputError, match="has not ended"):
        services.library.delete_training(job.folder.name)
    services.jobs.cancel(job.folder.name)


def test_a_snapshot_has_the_preview_of_its_step(services, images):
    job = trained(services, images, saving__every_steps="2")
    for step in ("000000", "000002"):
        place = job.folder / "previews" / step / "00.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    entries = {entry["name"]: entry for entry in services.library.entries()}
    snapshot = next(entry for name, entry in entries.items() if name != "cat")
    assert snapshot["picture"] and services.library.picture(snapshot["token"]) == job.folder / "previews" / "000002" / "00.png"
