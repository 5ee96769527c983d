"""What the page fetches by its key, and the library's routes."""

import importlib.util
import io

import pytest
from PIL import Image

from lib_finetune.access import Guard, accounts, page_key
from tests.api.test_routes import Served

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="fastapi belongs to the WebUI's library set")


@pytest.fixture
def served(tmp_path):
    return Served(tmp_path)


@pytest.fixture
def trained(served):
    name = served.job()
    served.settle(name)
    return name


def test_curves_come_once_and_then_what_is_new(served, trained):
    first = served.ask("GET", f"/jobs/{trained}/curves").json()
    assert [step for step, _ in first["losses"]] == [1, 2, 3, 4] == [step for step, _ in first["smooth"]]
    assert first["ended"] and first["snapshots"] == [4] and first["log"]
    later = served.ask("GET", f"/jobs/{trained}/curves?step={first['step']}&line={first['line']}").json()
    assert later["losses"] == later["smooth"] == later["log"] == [] and len(str(later)) < 200
    half = served.ask("GET", f"/jobs/{trained}/curves?step=2").json()
    assert half["smooth"] == first["smooth"][2:]


def test_a_job_has_a_cover_and_a_file_to_keep(served, trained):
    cover = served.ask("GET", f"/jobs/{trained}/cover")
    assert max(Image.open(io.BytesIO(cover.content)).size) <= 256
    kept = served.ask("GET", f"/jobs/{trained}/download/lora")
    assert kept.headers["content-disposition"] == 'attachment; filename="cat.safetensors"' and kept.content[8:9] == b"{"
    assert served.ask("GET", f"/jobs/{trained}/download/checkpoint").status_code == 404


def test_a_job_without_images_has_no_cover(served, trained):
    for path in served.bench.images.iterdir():
        path.unlink()
    assert served.ask("GET", f"/jobs/{trained}/cover").status_code == 404


def test_the_library_is_listed_given_out_and_emptied(served, trained):
    (entry,) = served.ask("GET", "/library").json()
    assert served.ask("GET", f"/library/{entry['token']}/file").content[8:9] == b"{"
    assert served.ask("GET", f"/library/{entry['token']}/picture").status_code == 422
    assert served.ask("DELETE", f"/library/{entry['token']}").json() == {"file": "cat.safetensors"}
    assert served.ask("GET", "/library").json() == [] and served.ask("GET", f"/library/{entry['token']}/file").status_code == 422


def test_everything_of_a_training_is_deleted(served, trained):
    assert served.ask("DELETE", f"/jobs/{trained}/everything").json() == {"name": "cat"}
    assert served.ask("GET", "/library").json() == [] and served.ask("GET", "/jobs").json()["jobs"] == []


def test_class_images_and_grids_are_seen_and_deleted(served):
    for folder, name in (("classes/abc", "00001.png"), ("sheets", "one.png")):
        place = served.services.host.paths.data / folder
        place.mkdir(parents=True)
        Image.new("RGB", (600, 600)).save(place / name)
    assert served.ask("GET", "/class-images").json()[0]["files"] == ["00001.png"]
    for address in ("/class-images/abc/00001.png", "/sheets/one.png"):
        assert served.ask("GET", address).headers["content-type"] == "image/png"
        small = served.ask("GET", f"{address}?small=1")
        assert Image.open(io.BytesIO(small.content)).size == (256, 256)
        assert served.ask("DELETE", address).json() == {"ok": True} and served.ask("DELETE", address).status_code == 422


def test_the_report_is_text(served, trained):
    assert "### Settings" in served.ask("GET", f"/report?job={trained}").text and "### Versions" in served.ask("GET", "/report").text


@pytest.mark.parametrize(
    "path", ["/jobs/x/curves", "/jobs/x/cover", "/jobs/x/download/lora", "/report", "/library/x/file", "/class-images/x/y.png"]
)
def test_the_pages_key_opens_them_and_nobody_else_does(tmp_path, path):
    served = Served(tmp_path, Guard(accounts(["me:secret"])))
    assert served.ask("GET", path).status_code == 401 and served.ask("GET", f"{path}?key={page_key()}").status_code != 401
    assert served.ask("GET", f"{path}?key=guessed").status_code == 401
    assert served.ask("DELETE", f"/library/x?key={page_key()}").status_code == 401
