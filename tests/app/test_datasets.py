"""Files that are dropped: what is kept, under which names, and what belongs together."""

from __future__ import annotations

import io
import json
import threading

import pytest
from PIL import Image

from lib_finetune.app import datasets as module
from lib_finetune.app.datasets import Datasets
from lib_finetune.app.thumbnails import Thumbnails
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.data.caption_file import save_caption
from lib_finetune.data.scan import scan
from lib_finetune.errors import InputError
from lib_finetune.host.headless.captions import HeadlessCaptions
from lib_finetune.jobs.task_list import TaskList
from tests.fakes.host import FakeHost


class _Jobs:
    def __init__(self, host):
        self.host = host
        self.tasks = TaskList(threading.Condition(), lambda: None)


@pytest.fixture
def datasets(tmp_path):
    return Datasets(_Jobs(FakeHost(tmp_path / "host")), Thumbnails(tmp_path / "data"))


def picture(colour="red", kind="PNG"):
    content = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(content, kind)
    return content.getvalue()


def captions(folder):
    """Colour of each image and its caption."""
    return sorted((Image.open(found.path).convert("RGB").getpixel((0, 0)), found.caption) for found in scan(folder).pictures)


RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_a_renamed_picture_takes_its_caption_along(datasets):
    place = datasets.keep([("1.png", picture("red")), ("1.txt", b"red")])
    assert datasets.keep([("1.txt", b"blue"), ("1.png", picture("blue"))], into=str(place)) == place
    assert captions(place) == [(BLUE, "blue"), (RED, "red")]
    assert sorted(path.name for path in place.iterdir()) == ["1-2.png", "1-2.txt", "1.png", "1.txt"]


@pytest.mark.parametrize("caption", ["1.png.txt", "1.caption", "1.TXT", "1.PNG.txt"])
def test_whatever_form_its_caption_has(datasets, caption):
    place = datasets.keep([("1.png", picture("red")), (caption, b"red")])
    datasets.keep([("1.png", picture("blue")), (caption, b"blue")], into=str(place))
    assert captions(place) == [(BLUE, "blue"), (RED, "red")]


def test_pictures_of_one_name_from_two_folders_keep_their_captions(datasets):
    dropped = [("a/1.png", picture("red")), ("b/1.png", picture("blue")), ("b/1.txt", b"blue"), ("a/1.txt", b"red")]
    assert captions(datasets.keep(dropped)) == [(BLUE, "blue"), (RED, "red")]


def test_pictures_of_one_name_without_a_folder_keep_theirs_in_their_order(datasets):
    dropped = [("1.png", picture("red")), ("1.txt", b"red"), ("1.png", picture("blue")), ("1.txt", b"blue")]
    assert captions(datasets.keep(dropped)) == [(BLUE, "blue"), (RED, "red")]


@pytest.mark.parametrize("name", ["1.jpg", "1.bmp", "1.webp"])
def test_a_picture_of_another_ending_does_not_come_under_the_caption_that_lies_there(datasets, name):
    place = datasets.keep([("1.png", picture("red")), ("1.txt", b"red")])
    datasets.keep([(name, picture("blue", {"jpg": "JPEG"}.get(name[2:], name[2:])))], into=str(place))
    assert sorted(text or "" for _, text in captions(place)) == ["", "red"]


def test_names_that_differ_in_letter_case_are_one_name_on_some_disks(datasets):
    place = datasets.keep([("x.png", picture("red")), ("X.png", picture("blue"))])
    assert sorted(path.name.lower() for path in place.iterdir()) == ["x-2.png", "x.png"]


def test_pictures_of_one_stem_that_come_together_stay_together(datasets):
    place = datasets.keep([("1.png", picture("red")), ("1.txt", b"red")])
    datasets.keep([("1.png", picture("blue")), ("1.jpg", picture("green", "JPEG")), ("1.txt", b"both")], into=str(place))
    assert sorted(path.name for path in place.iterdir()) == ["1-2.jpg", "1-2.png", "1-2.txt", "1.png", "1.txt"]


def test_a_picture_that_lies_there_is_not_kept_twice_and_its_caption_is_replaced(datasets):
    place = datasets.keep([("1.png", picture("red")), ("1.txt", b"old")])
    datasets.keep([("1.png", picture("red")), ("1.txt", b"new")], into=str(place))
    assert captions(place) == [(RED, "new")]


def test_a_mask_goes_with_its_picture(datasets):
    place = datasets.keep([("1.png", picture("red"))])
    datasets.keep([("1.png", picture("blue")), ("1-masklabel.png", picture("white"))], into=str(place))
    assert sorted(path.name for path in place.iterdir()) == ["1-2-masklabel.png", "1-2.png", "1.png"]


def test_a_folder_of_masks_is_kept_beside_the_pictures_as_masks(datasets):
    place = datasets.keep([("1.png", picture("red")), ("masks/1.png", picture("white")), ("masks/1.txt", b"mask")])
    assert sorted(path.name for path in place.iterdir()) == ["1-masklabel.png", "1.png"]
    assert captions(place) == [(RED, None)]


@pytest.mark.parametrize(
    "stray",
    [
        "Thumbs.db",
        "1.npz",
        ".DS_Store",
        "IMG.heic",
        "clip.mp4",
        "config.toml",
        "a.exe",
        "__MACOSX/._1.png",
        "samples/x.png",
        "._1.png",
        "x.gif",
    ],
)
def test_a_stray_file_is_left_out_and_named_and_refuses_nothing(datasets, stray):
    dropped = [("1.png", picture("red")), (stray, b"x"), ("1.txt", b"red")]
    place = datasets.keep(dropped)
    assert sorted(path.name for path in place.iterdir()) == ["1.png", "1.txt"]
    (line,) = datasets.left_out([name for name, _ in dropped])
    assert stray.split("/")[-1] in line and "left out" in line


def test_the_same_rule_holds_for_a_drop_and_a_folder(datasets, tmp_path):
    names = ["1.png", "2.jfif", "1_mask.png", "metadata.jsonl", "Thumbs.db", "x.gif", "odd", "1.npz"]
    folder = tmp_path / "pics"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(picture())
    groups = {group.kind.value for group in scan(folder).groups}
    left = {line.split(": ")[0] for line in datasets.left_out(names)}
    kept = {group.kind.value for group in scan(datasets.keep([(name, picture()) for name in names])).groups}
    assert left | kept == groups and not left & kept


def test_strays_alone_are_refused_with_what_they_are(datasets):
    with pytest.raises(InputError, match=r"Images of kinds that are not read, left out: 1 \(a\.heic\).*Images are .*jfif"):
        datasets.keep([("a.heic", b"x")])
    place = datasets.keep([("1.png", picture())])
    assert datasets.keep([("a.heic", b"x")], into=str(place)) == place and len(list(place.iterdir())) == 1


def test_captions_in_a_table_do_not_overwrite_those_of_another_drop(datasets):
    place = datasets.keep([("1.png", picture()), ("metadata.jsonl", b"{}")])
    datasets.keep([("2.png", picture("blue")), ("metadata.jsonl", b"[]")], into=str(place))
    assert (place / "metadata.jsonl").read_bytes() == b"{}" and (place / "metadata-2.jsonl").read_bytes() == b"[]"


def rows(*named):
    """``metadata.jsonl`` of (file_name, text)."""
    return "".join(json.dumps({"file_name": name, "text": text}) + "\n" for name, text in named).encode()


def test_a_renamed_picture_keeps_its_caption_of_a_table(datasets):
    place = datasets.keep([("1.png", picture("red")), ("metadata.jsonl", rows(("1.png", "red")))])
    datasets.keep([("1.png", picture("blue")), ("metadata.jsonl", rows(("1.png", "blue"))), ("2.png", picture("lime"))], into=str(place))
    assert captions(place) == [((0, 0, 255), "blue"), ((0, 255, 0), None), (RED, "red")]


def test_pictures_of_two_folders_keep_their_captions_of_a_table_above_or_beside_them(datasets):
    above = [("a/1.png", picture("red")), ("b/1.png", picture("blue")), ("metadata.jsonl", rows(("a/1.png", "red"), ("b/1.png", "blue")))]
    assert captions(datasets.keep(above)) == [(BLUE, "blue"), (RED, "red")]
    beside = [(f"{folder}/{name}", content) for folder, colour in (("a", "red"), ("b", "blue"))
              for name, content in (("1.png", picture(colour)), ("metadata.jsonl", rows(("1.png", colour))))]  # fmt: skip
    assert captions(datasets.keep(beside)) == [(BLUE, "blue"), (RED, "red")]


def test_captions_of_kohyas_table_come_along_too(datasets):
    place = datasets.keep([("1.png", picture("red"))])
    table = json.dumps({"/old/place/1": {"caption": "one\ntwo", "tags": "x"}}).encode()
    datasets.keep([("1.png", picture("blue")), ("meta_cap.json", table)], into=str(place))
    assert captions(place) == [(BLUE, "one, x\ntwo, x"), (RED, None)]


def test_a_text_file_that_comes_along_goes_before_the_table(datasets):
    place = datasets.keep([("1.png", picture("red")), ("1.txt", b"mine"), ("metadata.jsonl", rows(("1.png", "theirs")))])
    assert captions(place) == [(RED, "mine")]


def test_a_table_that_comes_again_does_not_change_what_was_typed_meanwhile(datasets):
    drop = [("1.png", picture("red")), ("metadata.jsonl", rows(("1.png", "theirs")))]
    place = datasets.keep(drop)
    save_caption(place / "1.png", "typed", place)
    datasets.keep(drop, into=str(place))
    assert captions(place) == [(RED, "typed")]
    save_caption(place / "1.png", "", place)
    assert captions(place) == [(RED, None)]
    assert len(list(place.glob("metadata*"))) == 1


def test_a_table_that_came_with_an_earlier_drop_gives_later_pictures_their_captions(datasets):
    place = datasets.keep([("1.png", picture("red")), ("metadata.jsonl", rows(("1.png", "red"), ("2.png", "blue")))])
    datasets.keep([("2.png", picture("blue"))], into=str(place))
    assert captions(place) == [(BLUE, "blue"), (RED, "red")]


def test_the_same_table_in_each_part_of_a_large_drop_is_kept_once(datasets):
    place = datasets.keep([("1.png", picture("red")), ("metadata.jsonl", rows(("1.png", "old")))])
    table = rows(("1.png", "lime"), ("2.png", "blue"))
    for name, colour in (("1.png", "lime"), ("2.png", "blue")):
        datasets.keep([(name, picture(colour)), ("metadata.jsonl", table)], into=str(place))
    assert captions(place) == [((0, 0, 255), "blue"), ((0, 255, 0), "lime"), (RED, "old")]
    assert len(list(place.glob("metadata*"))) == 2


def test_a_table_that_cannot_be_read_refuses_no_drop(datasets):
    place = datasets.keep([("1.png", picture("red")), ("metadata.jsonl", b"\xff\xfe\x00"), ("meta_cap.json", b"[")])
    assert captions(place) == [(RED, None)] and len(scan(place).unread_captions) == 2


def test_a_caption_of_a_table_that_is_emptied_in_the_tab_stays_empty(datasets):
    place = datasets.keep([("1.png", picture("red")), ("2.png", picture("blue"))])
    (place / "metadata.jsonl").write_bytes(rows(("1.png", "red"), ("2.png", "blue")))
    settings = codec.with_values(Settings(), {"data.images": str(place), "data.trigger": "zxq"}.items())
    token = next(shown["token"] for shown in datasets.view(settings)["pictures"] if shown["name"] == "1.png")
    assert datasets.caption(token, "  ") is None
    assert [(shown["caption_text"], shown["caption_file"]) for shown in datasets.view(settings)["pictures"]] == [
        (None, None),
        ("blue", str(place / "metadata.jsonl")),
    ]


@pytest.mark.parametrize("name", ["../../1.png", "/etc/1.png", "C:\\x\\1.png", "..\\1.png", "a/./1.png", "1.png"])
def test_no_name_leads_out_of_the_folder(datasets, name):
    assert [path.name for path in datasets.keep([(name, picture())]).iterdir()] == ["1.png"]


@pytest.mark.parametrize("letter", ["a", "猫"])
def test_a_long_name_keeps_its_caption(datasets, letter):
    place = datasets.keep([(f"{letter * 250}.png", picture("red")), (f"{letter * 250}.txt", b"red"), (f"{letter * 250}.png.caption", b"x")])
    assert captions(place) == [(RED, "x")]


def test_two_drops_at_the_same_time_lose_nothing(datasets, monkeypatch):
    monkeypatch.setattr(module.time, "strftime", lambda *_: "20300101-000000")
    place = datasets.keep([("0.png", picture())])
    drops = [[("1.png", picture((number, 0, 0))), ("1.txt", str(number).encode())] for number in range(8)]
    threads = [threading.Thread(target=datasets.keep, args=(drop,), kwargs={"into": str(place)}) for drop in drops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {colour[0]: text for colour, text in captions(place) if text}
    assert found == {number: str(number) for number in range(8)}


def test_captions_are_counted_as_they_exist_afterwards(datasets, tmp_path):
    folder = tmp_path / "pics"
    folder.mkdir()
    for name, colour in (("cat.png", "red"), ("cat.jpg", "blue"), ("dog.png", "green")):
        Image.new("RGB", (16, 16), colour).save(folder / name)
    settings = codec.with_values(Settings(), {"data.images": str(folder), "data.trigger": "zxq"}.items())
    describe = lambda image: "" if image.getpixel((0, 0))[1] > 100 else str(image.getpixel((0, 0)))  # noqa: E731
    written = datasets.fill_captions(settings, describe, lambda done, total: None, lambda: False)
    assert written == len(list(folder.glob("*.txt"))) == 2
    assert {found.name: found.caption is not None for found in scan(folder).pictures} == {
        "cat.png": True,
        "cat.jpg": True,
        "dog.png": False,
    }


class _Captions(HeadlessCaptions):
    """A host's captioner that says the colour."""

    def captioners(self):
        return ("colours",)

    def describe(self, captioner, image):
        return f"{captioner}: {'red' if image.getpixel((0, 0))[0] > 200 else 'blue'}"


@pytest.fixture
def folder(tmp_path):
    """A folder of a red image without a caption and a blue one with a caption."""
    folder = tmp_path / "pics"
    folder.mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (16, 16), name).save(folder / f"{name}.png")
    (folder / "blue.txt").write_text("mine")
    return folder


def test_the_hosts_captioner_writes_for_images_that_have_no_caption(tmp_path, folder):
    host = FakeHost(tmp_path / "host")
    host.captions = _Captions()
    datasets = Datasets(_Jobs(host), Thumbnails(tmp_path / "data"))
    settings = codec.with_values(Settings(), {"data.images": str(folder), "data.trigger": "zxq"}.items())
    task = datasets.write_captions(settings, "colours")
    task.run()
    assert (task.state, task.result, task.about) == ("done", {"captions": 1}, str(folder))
    assert captions(folder) == [(BLUE, "mine"), (RED, "colours: red")]
    with pytest.raises(InputError, match="has its caption already"):
        datasets.write_captions(settings, "colours")
    with pytest.raises(InputError, match="'words': colours"):
        datasets.write_captions(settings, "words")


def test_a_caption_is_saved_for_an_image_that_was_looked_at_and_for_no_other(datasets, folder):
    settings = codec.with_values(Settings(), {"data.images": str(folder), "data.trigger": "zxq"}.items())
    shown = {picture["name"]: picture["token"] for picture in datasets.view(settings)["pictures"]}
    assert datasets.caption(shown["red.png"], "a red one") == str(folder / "red.txt")
    assert captions(folder) == [(BLUE, "mine"), (RED, "a red one")]
    with pytest.raises(InputError, match="not known any more"):
        datasets.caption("0" * 24, "lost")
