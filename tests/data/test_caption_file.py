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
