"""A painted mask comes in by the page's own routes, for images that were looked at, and overwrites nothing unasked."""

import importlib.util
import io

import pytest
from PIL import Image

from lib_finetune.access import Guard, accounts, page_key
from lib_finetune.app import painted_masks
from lib_finetune.data.drawn_mask import content_of
from tests.api.test_routes import Served

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="fastapi belongs to the WebUI's library set")


def png(size=(64, 64), box=(0, 0, 32, 64), kind="PNG"):
    """A mask that shows ``box``."""
    content = io.BytesIO()
    mask = Image.new("L", size, 0)
    if box:
        mask.paste(255, box)
    mask.save(content, kind)
    return content.getvalue()


class Painted(Served):
    """One image of 64 × 64 px that was looked at."""

    def __init__(self, root, guard=None):
        super().__init__(root, guard)
        for path in self.bench.images.iterdir():
            path.unlink()
        Image.new("RGB", (64, 64), "red").save(self.bench.images / "cat.jpg")
        self.token = self.look()["token"]

    def look(self):
        settings = self.services.settings_files.from_values(self.values())
        return self.services.datasets.view(settings)["pictures"][0]

    def save(self, content=None, replaces="", **more):
        files = [("files", ("mask.png", png() if content is None else content))]
        return self.ask("POST", f"/masks/{self.token}", files=files, params={"replaces": replaces}, **more)

    def facts(self):
        return self.ask("GET", f"/masks/{self.token}").json()

    def names(self):
        return sorted(path.name for path in self.bench.images.iterdir())


@pytest.fixture
def painted(tmp_path):
    return Painted(tmp_path)


def said(answer):
    assert answer.status_code == 422, answer.text
    return " ".join(problem["message"] for problem in answer.json()["detail"])


def test_a_painted_mask_lies_beside_its_image_and_counts(painted):
    before = painted.facts()
    assert (before["file"], before["target"], before["content"]) == ("", "cat-masklabel.png", "")
    answer = painted.save()
    assert answer.status_code == 201 and answer.json() == {"file": "cat-masklabel.png"}
    assert painted.look()["mask"] == str(painted.bench.images / "cat-masklabel.png")
    with Image.open(painted.bench.images / "cat-masklabel.png") as mask:
        assert mask.mode == "L" and mask.size == (64, 64) and [mask.getpixel((x, 30)) for x in (10, 50)] == [255, 0]
    after = painted.facts()
    assert after["file"] == "cat-masklabel.png" and after["painted"] and after["content"]


def test_the_mask_that_counts_is_shown_to_the_brush(painted):
    def shown():
        answer = painted.ask("GET", f"/masks/{painted.token}/image")
        assert answer.headers["cache-control"] == "no-store"
        image = Image.open(io.BytesIO(answer.content))
        return image.size, [image.getpixel((x, 30)) for x in (10, 50)]

    assert shown() == ((64, 64), [0, 0])
    painted.save()
    assert shown() == ((64, 64), [255, 0])


def test_another_file_of_the_name_is_overwritten_only_when_it_is_named(painted):
    theirs = painted.bench.images / "cat-masklabel.png"
    theirs.write_bytes(png(box=(0, 0, 64, 10)))
    kept = theirs.read_bytes()
    assert "lies there already" in said(painted.save())
    assert "lies there already" in said(painted.save(replaces="0" * 64))
    assert theirs.read_bytes() == kept
    facts = painted.facts()
    assert facts["content"] == content_of(theirs) and not facts["painted"]
    assert painted.save(replaces=facts["content"]).status_code == 201
    assert painted.facts()["painted"]


def test_two_pages_that_paint_one_image_overwrite_nothing_of_each_other(painted):
    seen = painted.facts()["content"]
    assert painted.save(replaces=seen).status_code == 201
    assert "not the one that was shown" in said(painted.save(png(box=(40, 0, 64, 64)), replaces=seen))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png(box=None), "empty"),
        (png((64, 32)), "another shape"),
        (png(kind="BMP"), "as a PNG"),
        (png()[:60], "cannot be read"),
        (b"", "as a PNG"),
        (png((5000, 5000), (0, 0, 9, 9)), "at most 4096"),
    ],
    ids=["empty", "shape", "kind", "cut off", "nothing", "large"],
)
def test_what_is_no_mask_of_the_image_is_refused_and_nothing_is_written(painted, content, reason):
    assert reason in said(painted.save(content))
    assert painted.names() == ["cat.jpg"]


def test_a_mask_larger_than_the_limit_is_refused(painted, monkeypatch):
    monkeypatch.setattr(painted_masks, "BYTES", 50)
    assert "16 MB" in said(painted.save())
    two = [("files", ("a.png", png())), ("files", ("b.png", png()))]
    assert "16 MB" in said(painted.ask("POST", f"/masks/{painted.token}", files=two))
    assert painted.names() == ["cat.jpg"]


@pytest.mark.parametrize("token", ["0" * 24, "..%2Fcat", "cat.jpg"])
def test_only_images_that_were_looked_at_have_masks(painted, token):
    painted.token = token
    answer = painted.save()
    assert answer.status_code in (404, 422), answer.text
    assert painted.ask("GET", f"/masks/{token}").status_code in (404, 422)
    assert painted.names() == ["cat.jpg"]


def test_an_image_that_is_gone_gets_no_mask(painted):
    (painted.bench.images / "cat.jpg").unlink()
    assert "is gone" in said(painted.save())
    assert painted.names() == []


def test_a_mask_is_taken_away_and_kept_as_bak(painted):
    assert "no mask" in said(painted.ask("DELETE", f"/masks/{painted.token}?replaces="))
    painted.save()
    assert "not the one that was shown" in said(painted.ask("DELETE", f"/masks/{painted.token}?replaces=0"))
    answer = painted.ask("DELETE", f"/masks/{painted.token}", params={"replaces": painted.facts()["content"]})
    assert answer.status_code == 200 and painted.names() == ["cat-masklabel.png.bak", "cat.jpg"]
    assert painted.look()["mask"] is None and painted.facts()["content"] == ""


def test_masks_are_changed_by_who_may_change_something(tmp_path):
    served = Painted(tmp_path, Guard(accounts("me:secret")))
    assert served.save().status_code == 401
    assert served.ask("DELETE", f"/masks/{served.token}?replaces=x").status_code == 401
    assert served.ask("GET", f"/masks/{served.token}").status_code == 401
    foreign = served.save(headers={"x-finetune-key": page_key(), "sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403 and served.names() == ["cat.jpg"]
    assert served.save(headers={"x-finetune-key": page_key()}).status_code == 201
    assert served.ask("GET", f"/masks/{served.token}?key={page_key()}").json()["painted"]


def test_the_bare_image_shows_no_tint(painted):
    painted.save()
    token = painted.look()["token"]
    pixels = []
    for bare in ("", "&bare=1"):
        image = Image.open(io.BytesIO(painted.ask("GET", f"/thumbnails/{token}?large=1{bare}").content))
        pixels.append(image.getpixel((50, 30)))
    assert pixels[0][2] > 30 and pixels[1][2] < 10, pixels
