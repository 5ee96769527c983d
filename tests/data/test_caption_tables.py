"""Captions of many images in one file."""

import json

import pytest

from lib_finetune.data import caption_tables
from lib_finetune.data.caption_file import save_caption
from lib_finetune.data.scan import scan
from lib_finetune.errors import InputError


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def captions(folder):
    return {picture.name: picture.caption for picture in scan(folder).pictures}


def test_diffusers_metadata_gives_captions_and_it_is_said(paint, tmp_path):
    paint("a.png")
    paint("train/b.png")
    paint("c.png")
    (tmp_path / "metadata.jsonl").write_text(
        lines({"file_name": "a.png", "text": "a dog"}, {"file_name": "train/b.png", "text": "a\ncat"}), encoding="utf-8"
    )
    report = scan(tmp_path)
    assert captions(tmp_path) == {"a.png": "a dog", "train/b.png": "a cat", "c.png": None}
    assert report.pictures[0].caption_file == tmp_path / "metadata.jsonl"
    assert any(line.startswith("Captions read from metadata.jsonl: 2.") for line in report.lines())


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ({"text": "a", "caption": "b"}, "a"),
        ({"caption": "b", "width": 3}, "b"),
        ({"prompt": "c"}, "c"),
        ({"additional_feature": "d"}, "d"),
        ({"text": ["one", "two"]}, "one\ntwo"),
        ({"text": ""}, ""),
        ({"width": 3}, None),
        ({"text": None}, None),
        ({"x": "one", "y": "two"}, None),
    ],
)
def test_the_column_of_the_caption_is_found(paint, tmp_path, row, caption):
    paint("a.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "a.png", **row}), encoding="utf-8")
    assert captions(tmp_path) == {"a.png": caption}


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ({"caption": "a dog", "tags": "dog, 1 dog"}, "a dog, dog, 1 dog"),
        ({"caption": "a dog"}, "a dog"),
        ({"tags": "dog, grass", "train_resolution": [512, 512]}, "dog, grass"),
        ({"caption": "one\ntwo", "tags": "x"}, "one, x\ntwo, x"),
        ({"train_resolution": [512, 512]}, None),
    ],
)
@pytest.mark.parametrize("key", ["a.b", "a.b.png", "D:\\old\\place\\a.b.png", "/old/place/A.B.png"])
def test_kohyas_metadata_gives_captions_by_stem_name_and_path(paint, tmp_path, key, row, caption):
    paint("a.b.png")
    (tmp_path / "meta_cap.json").write_text(json.dumps({key: row, "other": {"caption": "x"}}), encoding="utf-8")
    assert captions(tmp_path) == {"a.b.png": caption}


def test_pictures_of_the_same_name_are_told_apart_by_their_folders(paint, tmp_path):
    for name in ("a/1.png", "b/1.png", "c/1.png", "1.png"):
        paint(name)
    (tmp_path / "metadata.jsonl").write_text(
        lines({"file_name": "a/1.png", "text": "in a"}, {"file_name": "./b\\1.png", "text": "in b"}, {"file_name": "1.png", "text": "top"}),
        encoding="utf-8",
    )
    assert captions(tmp_path) == {"1.png": "top", "a/1.png": "in a", "b/1.png": "in b", "c/1.png": None}


def test_a_caption_of_another_folder_is_not_taken(paint, tmp_path):
    paint("a/1.png")
    paint("b/1.png")
    (tmp_path / "meta_clean.json").write_text(json.dumps({"/x/a/1.png": {"caption": "in a"}}), encoding="utf-8")
    assert captions(tmp_path) == {"a/1.png": "in a", "b/1.png": None}


def test_names_are_compared_as_the_eye_does(paint, tmp_path):
    paint("cafe\u0301.PNG")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "caf\u00e9.png", "text": "a dog"}), encoding="utf-8")
    assert list(captions(tmp_path).values()) == ["a dog"]


def test_a_text_file_goes_first_and_typing_one_changes_no_other(paint, tmp_path):
    first = paint("a.png", caption="mine")
    second = paint("b.png")
    (tmp_path / "metadata.jsonl").write_text(
        lines({"file_name": "a.png", "text": "theirs"}, {"file_name": "b.png", "text": "theirs"}), encoding="utf-8"
    )
    assert captions(tmp_path) == {"a.png": "mine", "b.png": "theirs"}
    save_caption(second, "typed", tmp_path)
    assert captions(tmp_path) == {"a.png": "mine", "b.png": "typed"}
    save_caption(first, "", tmp_path)
    assert captions(tmp_path) == {"a.png": None, "b.png": "typed"}, "who empties a caption wants none, not another one"


def test_of_several_tables_the_nearest_goes_first_and_the_others_are_named(paint, tmp_path):
    paint("sub/a.png")
    for name, text in (("meta_cap.json", "old"), ("meta_lat.json", "latest"), ("meta_clean.json", "clean")):
        (tmp_path / name).write_text(json.dumps({"a": {"caption": text}}), encoding="utf-8")
    assert captions(tmp_path) == {"sub/a.png": "latest"}
    (tmp_path / "sub" / "meta_cap.json").write_text(json.dumps({"a": {"caption": "near"}}), encoding="utf-8")
    assert captions(tmp_path) == {"sub/a.png": "near"}
    assert sum("No caption is read from" in line for line in scan(tmp_path).lines()) == 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.jsonl", b'{"file_name": "a.png"', "line 1 is no JSON"),
        ("metadata.jsonl", b'\n["a.png"]\n', "line 2 names no image"),
        ("metadata.jsonl", b'{"text": "x"}', "names no image"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "süß und schön"}'.encode("cp1252"), "looks like"),
        ("meta_cap.json", b"[]", "no captions"),
        ("meta_cap.json", b'{"a": {"title": "x"}}', "no captions"),
        ("meta_cap.json", b'{\n"a": {', "is no JSON"),
        ("meta_cap.json", b"[" * 100_000, "is no JSON"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(paint, tmp_path, name, content, reason):
    paint("a.png")
    (tmp_path / name).write_bytes(content)
    report = scan(tmp_path)
    assert report.pictures[0].caption is None
    assert any(line.startswith(f"Caption not used: {name}") and reason in line for line in report.lines())


@pytest.mark.parametrize("name", ["metadata.jsonl", "meta_cap.json"])
def test_a_table_that_the_system_does_not_open_is_named(paint, tmp_path, monkeypatch, name):
    paint("a.png")
    (tmp_path / name).write_text("{}")

    def refuses(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(caption_tables, "read", refuses)
    assert f"Caption not used: {name} (it cannot be read: Permission denied)." in scan(tmp_path).lines()


def test_a_table_with_a_byte_order_mark_is_read(paint, tmp_path):
    paint("a.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "a.png", "text": "süß"}), encoding="utf-16")
    assert captions(tmp_path) == {"a.png": "süß"}


def test_a_table_alone_is_no_folder_of_pictures(tmp_path):
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "a.png", "text": "x"}), encoding="utf-8")
    with pytest.raises(InputError, match="no image"):
        scan(tmp_path)


TABLES = {
    "metadata.jsonl": lines({"file_name": "sub/a.png", "text": "theirs"}, {"file_name": "sub/b.png", "text": "theirs"}),
    "meta_cap.json": json.dumps({"sub/a": {"caption": "theirs"}, "sub/b.png": {"caption": "theirs"}}),
    "sub/metadata.jsonl": lines({"file_name": "a.png", "text": ["one", "two"]}, {"file_name": "b.png", "text": "theirs"}),
}


@pytest.mark.parametrize("name", list(TABLES))
def test_a_caption_of_a_table_that_was_emptied_stays_away_and_nothing_is_lost(paint, tmp_path, name):
    first = paint("sub/a.png")
    paint("sub/b.png")
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8")
    before = captions(tmp_path)
    assert save_caption(first, "", tmp_path) is None
    assert captions(tmp_path) == {**before, "sub/a.png": None}
    assert (tmp_path / name).read_text(encoding="utf-8") == TABLES[name], "the table is the person's"
    assert (tmp_path / "sub" / "a.png.table.bak").read_text(encoding="utf-8").strip() == before["sub/a.png"]
    assert any("emptied" in line and "a.png.table.bak" in line for line in scan(tmp_path).lines())
    save_caption(first, "typed", tmp_path)
    assert captions(tmp_path)["sub/a.png"] == "typed"
    save_caption(first, " ", tmp_path)
    assert captions(tmp_path) == {**before, "sub/a.png": None}


def test_behind_an_emptied_caption_no_other_table_comes_forward(paint, tmp_path):
    path = paint("a.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "a.png", "text": "first"}), encoding="utf-8")
    (tmp_path / "meta_cap.json").write_text(json.dumps({"a": {"caption": "second"}}), encoding="utf-8")
    save_caption(path, "", tmp_path)
    assert captions(tmp_path) == {"a.png": None}


def test_a_table_whose_caption_was_written_anew_counts_again(paint, tmp_path):
    path = paint("a.png")
    table = tmp_path / "metadata.jsonl"
    table.write_text(lines({"file_name": "a.png", "text": "old"}), encoding="utf-8")
    save_caption(path, "", tmp_path)
    table.write_text(lines({"file_name": "a.png", "text": "new"}), encoding="utf-8")
    assert captions(tmp_path) == {"a.png": "new"}


def test_a_caption_file_of_other_words_that_was_taken_away_is_no_reason_to_pass_a_table_over(paint, tmp_path):
    path = paint("a.png", caption="mine")
    save_caption(path, "", tmp_path)
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "a.png", "text": "theirs"}), encoding="utf-8")
    assert captions(tmp_path) == {"a.png": "theirs"}


def test_images_of_the_class_below_do_not_bring_an_emptied_caption_back(paint, tmp_path):
    path = paint("sub/a.png")
    paint("class/a.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "elsewhere/a.png", "text": "theirs"}), encoding="utf-8")

    def caption():
        return [picture.caption for picture in scan(tmp_path, apart=tmp_path / "class").pictures]

    assert caption() == ["theirs"]
    save_caption(path, "", tmp_path, tmp_path / "class")
    assert caption() == [None]
