from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

import lib_finetune.data.scan
from lib_finetune.data.images import examine
from lib_finetune.data.scan import scan
from lib_finetune.errors import InputError


def names(folder: Path) -> list[str]:
    return [picture.name for picture in scan(folder).pictures]


@pytest.mark.parametrize("kind", [".png", ".jpg", ".jpeg", ".JPG", ".webp", ".bmp"])
def test_kinds_of_pictures_are_found(paint, tmp_path, kind):
    paint("a" + kind)
    assert names(tmp_path) == ["a" + kind]


def test_avif_is_found_where_pillow_reads_it(paint, tmp_path):
    try:
        import pillow_avif  # noqa: F401
    except ImportError:
        if ".avif" not in Image.registered_extensions():
            pytest.skip("this Pillow reads no avif")
    paint("a.avif")
    assert names(tmp_path) == ["a.avif"]


def test_pictures_come_sorted_by_relative_path_whatever_the_letter_case(paint, tmp_path):
    for name in ("b.png", "A.png", "sub/a.png", "C/b.png"):
        paint(name)
    assert names(tmp_path) == ["A.png", "b.png", "C/b.png", "sub/a.png"]


def test_hidden_files_and_folders_are_left_out(paint, tmp_path):
    for name in ("a.png", ".b.png", ".finetune/c.png"):
        paint(name)
    assert names(tmp_path) == ["a.png"]


def test_a_linked_folder_is_followed_once(paint, tmp_path):
    paint("sub/a.png")
    try:
        (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    except OSError:
        pytest.skip("no links here")
    assert names(tmp_path) == ["sub/a.png"]


def test_content_and_size_describe_the_file(paint, tmp_path):
    path = paint("a.png", size=(70, 50))
    (found,) = scan(tmp_path).pictures
    assert (found.path, found.width_px, found.height_px) == (path, 70, 50)
    assert found.content == hashlib.sha256(path.read_bytes()).hexdigest()


def test_size_is_that_of_the_upright_picture(paint, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    paint("a.jpg", size=(1600, 900), exif=exif)
    (found,) = scan(tmp_path).pictures
    assert (found.width_px, found.height_px) == (900, 1600)


def test_the_focus_is_where_something_is(tmp_path, paint):
    image = Image.new("RGB", (900, 300), "white")
    image.paste(Image.open(paint("small.png", size=(200, 200))), (650, 50))
    image.save(tmp_path / "wide.jpg")
    (tmp_path / "small.png").unlink()
    x, y = scan(tmp_path).pictures[0].focus
    assert (x, y) == pytest.approx((0.83, 0.5), abs=0.05)


@pytest.mark.parametrize("suffix", [".txt", ".caption", ".TXT"])
def test_captions_are_read_from_beside_the_picture(paint, tmp_path, suffix):
    paint("a.png")
    (tmp_path / f"a{suffix}").write_text("  a dog,   asleep \n")
    assert scan(tmp_path).pictures[0].caption == "a dog, asleep"


@pytest.mark.parametrize("text", ["a dog\n", "a dog\r\n", "\n\na dog\n\n", "a dog", "\r\n \t\r\na dog\r\n"])
def test_blank_lines_and_the_end_of_the_last_line_make_no_alternative(paint, tmp_path, text):
    paint("a.png")
    (tmp_path / "a.txt").write_bytes(text.encode())
    report = scan(tmp_path)
    assert report.pictures[0].caption == "a dog" and not any("several lines" in line for line in report.lines())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_lines_stay_apart_and_are_counted(paint, tmp_path, end):
    paint("a.png")
    (tmp_path / "a.txt").write_bytes(f"a dog{end}asleep".encode())
    report = scan(tmp_path)
    assert report.pictures[0].caption == "a dog\nasleep"
    assert "Captions of several lines: 1. One of the lines is read each time." in report.lines()


def test_without_a_caption_file_there_is_no_caption(paint, tmp_path):
    paint("a.png")
    assert scan(tmp_path).pictures[0].caption is None


def test_a_byte_order_mark_is_no_part_of_the_caption(paint, tmp_path):
    paint("a.png")
    (tmp_path / "a.txt").write_text("süß", encoding="utf-8-sig")
    assert scan(tmp_path).pictures[0].caption == "süß"


def test_letter_case_does_not_part_a_caption_from_its_picture(paint, tmp_path):
    paint("IMG_1.JPG")
    (tmp_path / "img_1.txt").write_text("a dog")
    report = scan(tmp_path)
    assert (report.pictures[0].caption, report.orphans) == ("a dog", ())


def test_txt_goes_before_caption_and_it_is_said(paint, tmp_path):
    paint("a.png", caption="from txt")
    (tmp_path / "a.caption").write_text("from caption")
    report = scan(tmp_path)
    assert report.pictures[0].caption == "from txt"
    assert any("a.caption" in line and "goes first" in line for line in report.lines())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_caption_with_another_byte_order_mark_is_read(paint, tmp_path, encoding):
    paint("a.png")
    (tmp_path / "a.txt").write_text("süß", encoding=encoding)
    assert scan(tmp_path).pictures[0].caption == "süß"


@pytest.mark.parametrize(
    ("content", "words"),
    [("ein süßer Hund läuft".encode("cp1252"), "looks like"), ("ein Hund".encode("utf-16-le"), "UTF-16"), (b"a\0b", "NUL")],
)
def test_a_caption_that_is_no_text_is_reported_as_what_it_looks_like(paint, tmp_path, content, words):
    paint("a.png")
    (tmp_path / "a.txt").write_bytes(content)
    report = scan(tmp_path)
    assert report.pictures[0].caption is None
    assert any("a.txt" in line and words in line for line in report.lines())


def test_captions_of_no_picture_are_reported(paint, tmp_path):
    paint("a.png", caption="a dog")
    (tmp_path / "b.txt").write_text("a cat")
    report = scan(tmp_path)
    assert report.orphans == (tmp_path / "b.txt",)
    assert any("b.txt" in line for line in report.lines())


def test_a_caption_of_a_broken_picture_is_no_orphan(paint, tmp_path):
    paint("a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    (tmp_path / "b.txt").write_text("a cat")
    assert scan(tmp_path).orphans == ()


def test_empty_caption_files_are_counted(paint, tmp_path):
    paint("a.png", caption="")
    report = scan(tmp_path)
    assert report.pictures[0].caption == ""
    assert "Empty caption files: 1." in report.lines()


def test_kohya_folders_give_repeats_and_words(paint, tmp_path):
    paint("10_zxq dog/deep/a.png")
    paint("b.png")
    first, second = scan(tmp_path).pictures
    assert (first.repeats, first.folder_words) == (10, "zxq dog")
    assert (second.repeats, second.folder_words) == (1, None)


def test_the_chosen_folder_may_be_a_kohya_folder_itself(paint, tmp_path):
    paint("5_zxq/a.png")
    assert scan(tmp_path / "5_zxq").pictures[0].repeats == 5


def test_a_year_is_no_number_of_repeats(paint, tmp_path):
    paint("2024_summer/a.png")
    assert scan(tmp_path).pictures[0].repeats == 1


def test_a_folder_of_no_repeats_is_left_out_and_said(paint, tmp_path):
    paint("0_zxq/a.png")
    paint("b.png")
    report = scan(tmp_path)
    assert [picture.name for picture in report.pictures] == ["b.png"]
    assert any("0_zxq/a.png" in line for line in report.lines())


def test_broken_pictures_are_listed_with_the_reason(paint, tmp_path):
    paint("a.png")
    whole = paint("b.jpg", size=(300, 300)).read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.png").write_bytes(b"")
    report = scan(tmp_path)
    assert [path.name for path, _ in report.broken] == ["b.jpg", "c.png"]
    assert any("b.jpg" in line and "cut off" in line for line in report.lines())


def test_pictures_of_other_kinds_are_said(paint, tmp_path):
    paint("a.png")
    (tmp_path / "b.heic").write_bytes(b"x")
    assert any("b.heic" in line and ".heic" in line for line in scan(tmp_path).lines())


def test_long_lists_are_shortened(paint, tmp_path):
    paint("a.png")
    for number in range(130):
        (tmp_path / f"{number}.txt").write_text("x")
    assert any("30 more" in line for line in scan(tmp_path).lines())


@pytest.mark.parametrize(("name", "words"), [("gone", "does not exist"), ("file.png", "is a file"), ("empty", "no image")])
def test_a_folder_without_pictures_is_refused(tmp_path, name, words):
    (tmp_path / "file.png").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words) as caught:
        scan(tmp_path / name, field="data.class_images")
    assert caught.value.problems[0].field == "data.class_images"


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        scan(tmp_path)


def test_a_subfolder_that_cannot_be_read_is_listed(paint, tmp_path, monkeypatch):
    paint("a.png")
    paint("sub/b.png")
    real = os.scandir

    def refuse(folder):
        if Path(folder).name == "sub":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [path.name for path, _ in scan(tmp_path).broken] == ["sub"]


def test_a_folder_of_broken_pictures_names_them(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.png"):
        scan(tmp_path)


def test_a_folder_of_other_kinds_says_so(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"other kinds \(\.heic\)"):
        scan(tmp_path)


def test_progress_is_told(paint, tmp_path):
    for number in range(3):
        paint(f"{number}.png")
    told: list[tuple[int, int]] = []
    scan(tmp_path, on_picture=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_stop_does_not_wait_for_the_other_pictures(paint, tmp_path, monkeypatch):
    first = paint("0.png")
    for number in range(1, 400):
        shutil.copyfile(first, tmp_path / f"{number}.png")
    begun: list[int] = []

    def slow(data):
        begun.append(1)
        time.sleep(0.01)
        return examine(data)

    def stop(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(lib_finetune.data.scan, "examine", slow)
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, on_picture=stop)
    assert len(begun) < 200


def test_two_scans_give_the_same_report(paint, tmp_path):
    for number in range(20):
        paint(f"{number}.png", seed=number, caption=str(number))
    assert scan(tmp_path) == scan(tmp_path)


# -- what is no training image ---------------------------------------------------------------------------------------


def test_each_kind_of_file_is_named_with_its_count_and_what_was_done(paint, tmp_path):
    for name in ("a.png", "b.png", "a-masklabel.png", "b_mask.png", "masks/a.png", "sample/0.png", "reg/1_cat/x.png"):
        paint(name)
    for name in ("Thumbs.db", ".DS_Store", "a.npz", "b.gif", "notes.docx", "x.zip", "clip.mp4", "odd", "config.toml"):
        (tmp_path / name).write_bytes(b"x")
    report = scan(tmp_path)
    assert [picture.name for picture in report.pictures] == ["a.png", "b.png"]
    lines = "\n".join(report.lines())
    for words in (
        "Masks: 3 (a-masklabel.png, b_mask.png, masks/a.png).",
        "Class images, left out of the training images: 1 (reg/1_cat/x.png).",
        "Samples and results of trainings, left out: 1 (sample/0.png).",
        "Images of kinds that are not read, left out: 1 (b.gif).",
        "What a system or another program left behind, left out: 2 (.DS_Store, Thumbs.db).",
        "Caches and weights of other programs, left out: 1 (a.npz).",
        "Files of unknown kinds, left out: 1 (odd).",
    ):
        assert words in lines
    told = {path for group in report.groups for path in group.paths}
    assert told | {picture.path for picture in report.pictures} == {path for path in tmp_path.rglob("*") if path.is_file()}


def test_captions_of_masks_are_no_orphans(paint, tmp_path):
    paint("a.png", caption="a cat")
    paint("masks/a.png", caption="white")
    assert scan(tmp_path).orphans == ()


def test_many_of_a_kind_take_one_line(paint, tmp_path):
    paint("a.png")
    for number in range(130):
        (tmp_path / f"{number}.npz").write_bytes(b"x")
    assert sum("npz" in line for line in scan(tmp_path).lines()) == 1
    assert any("130 (0.npz, " in line and "and 125 more" in line for line in scan(tmp_path).lines())


def test_a_folder_named_for_masks_that_mirrors_nothing_is_trained_on_and_said(paint, tmp_path):
    paint("masks/venice.png")
    paint("faces/anna.png")
    report = scan(tmp_path)
    assert len(report.pictures) == 2 and any("masks is named as a folder of masks" in line for line in report.lines())


def test_a_folder_of_samples_alone_says_what_to_do(paint, tmp_path):
    paint("samples/a.png")
    with pytest.raises(InputError, match=r"Samples and results.*name that folder itself"):
        scan(tmp_path)
    assert names(tmp_path / "samples") == ["a.png"]


def test_a_root_of_kohyas_trainers_is_recognised_and_offered(paint, tmp_path):
    for name in ("img/10_zxq cat/a.png", "reg/1_cat/b.png", "model/preview.png", "log/c.png"):
        paint(name)
    report = scan(tmp_path)
    assert [(picture.name, picture.repeats) for picture in report.pictures] == [("img/10_zxq cat/a.png", 10)]
    assert report.kohya == (tmp_path / "img", tmp_path / "reg")
    assert any("kohya" in line and str(tmp_path / "img") in line for line in report.lines())
    assert any("Class images lie in" in line and str(tmp_path / "reg") in line for line in report.lines())


def test_pictures_of_the_class_folder_are_never_the_subjects(paint, tmp_path):
    for name in ("a.png", "others/b.png", "others/deep/c.png"):
        paint(name)
    report = scan(tmp_path, apart=tmp_path / "others")
    assert [picture.name for picture in report.pictures] == ["a.png"]
    assert [group.kind.name for group in report.groups] == ["CLASS_IMAGE"] and len(report.groups[0].paths) == 2


def test_links_into_the_class_folder_are_not_the_subjects(paint, tmp_path):
    paint("pics/a.png")
    other = paint("others/b.png")
    (tmp_path / "pics" / "linked").symlink_to(tmp_path / "others")
    (tmp_path / "pics" / "c.png").symlink_to(other)
    assert [picture.name for picture in scan(tmp_path / "pics", apart=tmp_path / "others").pictures] == ["a.png"]


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".pjpeg", ".JFIF"])
def test_jpegs_by_their_other_endings_are_read(paint, tmp_path, ending):
    paint("a.jpg", caption="a cat").rename(tmp_path / f"a{ending}")
    (found,) = scan(tmp_path).pictures
    assert (found.name, found.caption) == (f"a{ending}", "a cat")


def test_a_relative_folder_is_made_absolute(paint, tmp_path, monkeypatch):
    paint("5_zxq cat/a.png")
    monkeypatch.chdir(tmp_path / "5_zxq cat")
    report = scan(Path())
    assert report.folder == tmp_path / "5_zxq cat" and report.pictures[0].repeats == 5


# -- which caption is whose ------------------------------------------------------------------------------------------


def test_pictures_of_one_stem_share_its_caption_and_it_is_said(paint, tmp_path):
    paint("cat.png", caption="a cat")
    paint("cat.jpg")
    report = scan(tmp_path)
    assert [picture.caption for picture in report.pictures] == ["a cat", "a cat"]
    assert report.shared_captions[0].pictures == ("cat.jpg", "cat.png")
    assert any("cat.txt is the caption of cat.jpg, cat.png" in line for line in report.lines())


def test_a_caption_of_the_whole_name_goes_first(paint, tmp_path):
    paint("cat.png", caption="by stem")
    paint("cat.jpg")
    (tmp_path / "cat.jpg.caption").write_text("by name")
    report = scan(tmp_path)
    assert [picture.caption for picture in report.pictures] == ["by name", "by stem"]
    assert not report.shared_captions and not report.doubles and not report.orphans


def test_the_order_of_four_captions_is_the_stated_one(paint, tmp_path):
    paint("cat.png")
    names = ["cat.png.txt", "cat.png.caption", "cat.txt", "cat.caption"]
    for name in names:
        (tmp_path / name).write_text(name)
    for place, name in enumerate(names):
        report = scan(tmp_path)
        assert report.pictures[0].caption == name and [path.name for path in report.doubles] == names[place + 1 :]
        (tmp_path / name).unlink()


def test_names_that_differ_in_letter_case_share_a_caption_as_they_would_on_windows(paint, tmp_path):
    paint("x.png", caption="an x")
    paint("X.jpg")
    assert [(shared.file.name, len(shared.pictures)) for shared in scan(tmp_path).shared_captions] == [("x.txt", 2)]


def test_the_caption_that_is_spelled_as_the_picture_goes_first_and_the_other_is_said(paint, tmp_path):
    paint("Cat.png")
    for name in ("CAT.txt", "Cat.txt", "Cat.TXT"):
        (tmp_path / name).write_text(name)
    if len(list(tmp_path.glob("*"))) < 4:
        pytest.skip("this file system ignores letter case")
    report = scan(tmp_path)
    assert report.pictures[0].caption in ("Cat.txt", "Cat.TXT") and len(report.doubles) == 2


def test_accents_composed_by_another_system_do_not_part_a_caption_from_its_picture(paint, tmp_path):
    paint("cafe\u0301.png")
    (tmp_path / "caf\u00e9.txt").write_text("coffee")
    report = scan(tmp_path)
    assert report.pictures[0].caption == "coffee" and not report.orphans


def test_a_picture_with_two_endings_does_not_take_the_others_caption(paint, tmp_path):
    paint("cat.jpg")
    paint("cat.jpg.png")
    (tmp_path / "cat.jpg.txt").write_text("the jpg")
    assert [picture.caption for picture in scan(tmp_path).pictures] == ["the jpg", None]


# -- what held before --------------------------------------------------------------------------------------------------


def test_a_linked_picture_is_one_like_the_others_and_a_link_to_nothing_is_said(paint, tmp_path):
    target = paint("elsewhere/a.png")
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "b.png").symlink_to(target)
    (tmp_path / "pics" / "c.png").symlink_to(tmp_path / "gone.png")
    report = scan(tmp_path / "pics")
    assert [picture.name for picture in report.pictures] == ["b.png"] and [path.name for path, _ in report.broken] == ["c.png"]


@pytest.mark.parametrize("name", ["a b.png", "ä.png", "猫.png", "a#b%20c.png", "a'b.png", "[a].png", "a\nb.png", "a.b.c.png", "-a.png"])
def test_odd_names_are_found_with_their_captions(paint, tmp_path, name):
    try:
        paint(name, caption="a cat")
    except OSError:
        pytest.skip("no such name here")
    (found,) = scan(tmp_path).pictures
    assert (found.name, found.caption) == (name, "a cat")


def test_a_pipe_is_said_and_does_not_keep_the_scan_waiting(paint, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    paint("a.png")
    os.mkfifo(tmp_path / "b.png")
    assert [path.name for path, _ in scan(tmp_path).broken] == ["b.png"]


def test_a_mask_of_a_picture_that_is_not_read_is_no_picture(paint, tmp_path):
    paint("a.png")
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    paint("b_mask.png")
    assert names(tmp_path) == ["a.png"]


def test_our_own_notes_among_class_images_are_no_strangers(paint, tmp_path):
    for number in (1, 2):
        paint(f"classes/ab/{number:05d}.png")
    (tmp_path / "classes" / "ab" / "about.json").write_text("{}")
    (tmp_path / "classes" / "ab" / ".00003.png.0123abcd.part").write_bytes(b"")
    for folder in (tmp_path / "classes" / "ab", tmp_path):
        report = scan(folder)
        assert len(report.pictures) == 2 and report.groups == () and not any("about.json" in line for line in report.lines())


def test_an_about_json_among_other_images_is_named(paint, tmp_path):
    paint("cat.png")
    (tmp_path / "about.json").write_text("{}")
    assert any("about.json" in line for line in scan(tmp_path).lines())
