"""Folders whose names nearly follow kohya's form."""

import pytest

from lib_finetune.data.folder_names import remarks
from lib_finetune.data.scan import scan


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1000_zxq cat", "taken for a year"),
        ("2024_holiday", "taken for a year"),
        ("10 zxq", '"10_zxq"'),
        ("10-zxq", '"10_zxq"'),
        ("10.zxq cat", '"10_zxq cat"'),
        ("10x_zxq", '"10_zxq"'),
        ("x10 zxq", '"10_zxq"'),
        ("_10_zxq", '"10_zxq"'),
        (" 10_zxq", '"10_zxq"'),
        ("(10) zxq", '"10_zxq"'),
        ("-5_zxq", '"5_zxq"'),
        ("0-x", '"0_x"'),
        ("10 猫", '"10_猫"'),
        ("1.5_zxq", "begin as 10_zxq"),
        ("_10zxq", "begin as 10_zxq"),
        ("10_", "no name follows"),
        ("5_ ", "no name follows"),
        ("10X zxq", '"10_zxq"'),
        ("1e3_zxq", "begin as 10_zxq"),
        ("10repeats_zxq", '"10_zxq"'),
        ("10 times zxq", '"10_zxq"'),
        ("repeat_10_zxq", '"10_zxq"'),
    ],
)
def test_what_nearly_follows_the_form_is_named_with_what_was_made_of_it(paint, tmp_path, name, said):
    paint(f"{name}/a.png")
    for folder in (tmp_path, tmp_path / name):
        report = scan(folder)
        assert (report.pictures[0].repeats, report.pictures[0].folder_words) == (1, None)
        (remark,) = report.notes
        assert f'"{name}"' in remark and said in remark and remark in report.lines()


@pytest.mark.parametrize(
    "name",
    ["10_zxq", "010_zxq cat", "img", "3d renders", "2girls", "2024-05-01 trip", "2024_05_trip", "12", "x_ray", "v2_cat", "R2_D2", "3e_x"],
)
def test_names_that_ask_for_no_repeats_or_get_them_are_not_remarked(paint, tmp_path, name):
    path = paint(f"{name}/a.png")
    assert remarks([path], tmp_path) == []


def test_a_folder_of_many_pictures_is_named_once_and_those_above_are_not(paint, tmp_path):
    for number in range(3):
        paint(f"10 zxq/deep/{number}.png")
    assert len(scan(tmp_path).notes) == 1 and scan(tmp_path / "10 zxq" / "deep").notes == ()
