import pytest

from lib_finetune.data.caption_file import save_caption
from lib_finetune.data.scan import scan
from lib_finetune.errors import InputError


def captions(folder):
    return [picture.caption for picture in scan(folder).pictures]


def test_a_caption_is_written_tidily_beside_the_picture(paint, tmp_path):
    path = paint("sub/a.png")
    assert save_caption(path, "  zxq   cat \n", tmp_path) == tmp_path / "sub" / "a.txt"
    assert (tmp_path / "sub" / "a.txt").read_text(encoding="utf-8") == "zxq cat\n" and captions(tmp_path) == ["zxq cat"]


def test_alternatives_stay_in_lines_of_their_own(paint, tmp_path):
    path = paint("a.png", caption="one\ntwo")
    save_caption(path, "one \r\n\r\n two\nthree", tmp_path)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "one\ntwo\nthree\n" and captions(tmp_path) == ["one\ntwo\nthree"]


@pytest.mark.parametrize("name", ["a.caption", "A.TXT"])
def test_the_file_that_counts_is_replaced(paint, tmp_path, name):
    path = paint("a.png")
    (tmp_path / name).write_text("old")
    save_caption(path, "new", tmp_path)
    assert captions(tmp_path) == ["new"] and not scan(tmp_path).doubles


def test_an_empty_text_gives_way_to_the_template_and_loses_nothing(paint, tmp_path):
    path = paint("a.png", caption="typed")
    (tmp_path / "a.caption").write_text("other")
    assert save_caption(path, " \n", tmp_path) is None
    assert captions(tmp_path) == [None]
    assert (tmp_path / "a.txt.bak").read_text() == "typed" and (tmp_path / "a.caption.bak").read_text() == "other"


def test_a_relative_path_is_of_the_folder(paint, tmp_path):
    paint("a.png")
    save_caption((tmp_path / "a.png").relative_to(tmp_path), "new", tmp_path)
    assert captions(tmp_path) == ["new"]


@pytest.mark.parametrize("name", ["../a.png", "sub/../../a.png", "sub/gone.png", "sub/notes.md", "."])
def test_what_is_no_picture_of_the_folder_is_refused(paint, tmp_path, name):
    paint("a.png")
    paint("sub/b.png")
    (tmp_path / "sub" / "sub").mkdir()
    (tmp_path / "sub" / "notes.md").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError):
        save_caption(tmp_path / "sub" / name.removeprefix("sub/"), "new", tmp_path / "sub")
    assert sorted(tmp_path.rglob("*")) == before


def texts(folder):
    return {picture.name: picture.caption for picture in scan(folder).pictures}


def test_a_caption_typed_for_one_picture_changes_no_other(paint, tmp_path):
    paint("cat.jpg")
    png = paint("cat.png", caption="both")
    assert save_caption(png, "the png", tmp_path) == tmp_path / "cat.png.txt"
    assert texts(tmp_path) == {"cat.jpg": "both", "cat.png": "the png"}
    assert save_caption(png, "again", tmp_path) == tmp_path / "cat.png.txt"
    assert texts(tmp_path) == {"cat.jpg": "both", "cat.png": "again"}


@pytest.mark.parametrize("twin", ["cat.jpg", "CAT.webp", "cat.bmp"])
def test_two_pictures_of_one_stem_get_a_file_each(paint, tmp_path, twin):
    paint(twin)
    png = paint("cat.png")
    for name in ("cat.png", twin):
        save_caption(tmp_path / name, name, tmp_path)
    assert texts(tmp_path) == {png.name: "cat.png", twin: twin}


def test_a_caption_taken_away_from_one_picture_stays_with_the_other(paint, tmp_path):
    paint("cat.jpg")
    png = paint("cat.png", caption="both")
    assert save_caption(png, "", tmp_path) is None
    assert texts(tmp_path) == {"cat.jpg": "both", "cat.png": None} and (tmp_path / "cat.txt.bak").read_text() == "both"


def test_what_the_other_wrote_for_itself_stays(paint, tmp_path):
    jpg, png = paint("cat.jpg"), paint("cat.png", caption="both")
    save_caption(jpg, "the jpg", tmp_path)
    save_caption(png, "the png", tmp_path)
    assert texts(tmp_path) == {"cat.jpg": "the jpg", "cat.png": "the png"}
    assert (tmp_path / "cat.txt").read_text() == "the png\n", "it is the png's alone by then"


def test_a_caption_for_a_picture_with_two_endings_is_not_the_others(paint, tmp_path):
    paint("cat.jpg")
    save_caption(paint("cat.jpg.png"), "the png", tmp_path)
    assert texts(tmp_path) == {"cat.jpg": None, "cat.jpg.png": "the png"}


def test_a_relative_folder_will_do(paint, tmp_path, monkeypatch):
    paint("pics/a.png")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path.relative_to(tmp_path) / "pics"
    assert save_caption(folder / "a.png", "new", folder) == tmp_path / "pics" / "a.txt"
    assert captions(tmp_path / "pics") == ["new"]
