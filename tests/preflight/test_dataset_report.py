import dataclasses
import json
import shutil
import time
import types

import pytest
from PIL import Image

from lib_finetune.assembly import builder, dataset
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.data.images import fit, load_rgb
from lib_finetune.errors import InputError
from lib_finetune.preflight.dataset_report import Looks, thumbnail, view
from tests.fakes import profiles
from tests.fakes.host import FakeHost
from tests.fakes.pictures import photo


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    return FakeHost(tmp_path_factory.mktemp("host")).text_tools()


@pytest.fixture
def folder(tmp_path):
    photo(1, (900, 600)).save(tmp_path / "a.jpg")
    photo(2, (600, 900)).save(tmp_path / "b.png")
    (tmp_path / "a.txt").write_text("a cat on a chair")
    return tmp_path


def seen(folder, tools, looks=None, **changes):
    pairs = {path.replace("__", "."): str(value) for path, value in changes.items()}
    settings = codec.with_values(Settings(), {"data.images": str(folder), **pairs}.items())
    return view(settings, tools, looks or Looks())


def kinds(picture):
    return [flag.kind for flag in picture.flags]


def test_a_crop_around_the_face_keeps_it(folder, tools):
    place = {"a": (1.0, 0.5), "b": None}
    looks = Looks(face=lambda image: place["a" if image.width > image.height else "b"])
    crops = {}
    for crop in ("centre", "focal", "face"):
        found = seen(folder, tools, looks, data__trigger="zxq", data__crop=crop, data__buckets="false")
        crops[crop] = [picture.crop for picture in found.pictures]
    wide, tall = crops["face"]
    assert wide[2] == 900 and wide != crops["focal"][0]
    assert tall == crops["focal"][1], "without a face, what stands out"


def test_a_crop_around_the_face_without_a_finder_is_refused(folder, tools, tmp_path):
    host = FakeHost(tmp_path / "host")
    with pytest.raises(InputError, match="inside the WebUI only") as caught:
        seen(folder, tools, Looks(host.captions.face), data__trigger="zxq", data__crop="face")
    assert [problem.field for problem in caught.value.problems] == ["data.crop"]


def test_captions_are_those_of_the_run(folder, tools):
    found = seen(folder, tools, data__trigger="zxq", data__class_word="cat")
    assert [picture.caption for picture in found.pictures] == ["zxq, a cat on a chair", "a photo of zxq cat"]
    assert found.pictures[0].caption_file == str(folder / "a.txt") and found.pictures[1].caption_file is None
    assert found.pictures[0].caption_text == "a cat on a chair" and found.captions == 1


def test_an_embedding_stands_in_the_captions_by_its_name_and_counts_its_vectors(folder, tools):
    changes = {"method": "textual_inversion", "name": "zxqcat", "data__trigger": "other"}
    few, many = (seen(folder, tools, **changes, embedding__vectors=count).pictures for count in (2, 7))
    assert few[0].caption == "zxqcat, a cat on a chair" and few[1].caption_varies and "zxqcat" in few[1].caption
    assert many[0].tokens - few[0].tokens == 5


def test_words_of_a_kohya_folder_are_in_the_caption_and_its_repeats_are_told(folder, tools):
    (folder / "3_wug dog").mkdir()
    shutil.move(folder / "b.png", folder / "3_wug dog" / "b.png")
    found = seen(folder, tools)
    assert [(picture.caption, picture.repeats) for picture in found.pictures] == [("a photo of wug dog", 3), ("a cat on a chair", 1)]
    assert found.views == 4 and "each of the 2 is seen 125 to 375 times, as repeats weigh them" in found.sentence


def test_the_sentence_is_true(folder, tools):
    found = seen(folder, tools, training__steps=100, training__batch=2, training__accumulation=5)
    assert found.sentence == "100 steps of 5 images: each of the 2 is seen 250 times."


@pytest.mark.parametrize("crop", ["centre", "focal", "random"])
def test_the_crop_is_what_the_run_cuts_out(folder, tools, crop):
    changes = {"data.images": str(folder), "data.crop": crop, "data.buckets": "false"}
    settings = codec.with_values(Settings(), changes.items())
    plan = builder.data_plan(settings, dataset.find(settings))
    item = next(item for step in range(2) for item in plan.items(step) if item.picture == 0)
    found = view(settings, tools, Looks()).pictures[0]
    assert found.bucket == item.size == (512, 512) and found.crop_varies == (crop == "random")
    image = load_rgb(folder / "a.jpg")
    wanted, cut = fit(image, *item.size, item.position), image.crop(found.crop).resize(item.size, Image.Resampling.LANCZOS)
    off = sum(abs(x - y) for x, y in zip(wanted.convert("L").getdata(), cut.convert("L").getdata())) / 512**2
    assert off < 6, "the frame shows another part than is trained on"


def test_buckets_are_counted(folder, tools):
    found = seen(folder, tools)
    assert {(bucket.width_px, bucket.height_px): bucket.pictures for bucket in found.buckets} == {(640, 384): 1, (384, 640): 1}


def test_held_out_pictures_are_shown_as_such(folder, tools):
    for seed in range(4):
        photo(10 + seed, (600, 600)).save(folder / f"more{seed}.png")
    found = seen(folder, tools, data__held_out=2)
    assert sum(picture.held_out for picture in found.pictures) == 2 and found.views == 4


def test_a_wrong_number_of_held_out_pictures_is_told_beside_the_pictures(folder, tools):
    found = seen(folder, tools, data__held_out=2)
    assert len(found.pictures) == 2 and [field for field, _ in found.problems] == ["data.held_out"]


def test_templates_that_cannot_be_read_are_told_beside_the_pictures(folder, tools):
    found = seen(folder, tools, method="textual_inversion", name="zxqcat", embedding__template="/nowhere", data__held_out=2)
    assert [field for field, _ in found.problems] == ["data.held_out", "embedding.template"]


@pytest.mark.parametrize(
    ("words", "kind", "over", "cut"), [(10, None, False, False), (80, "long_caption", True, False), (300, "cut_off", True, True)]
)
def test_long_captions_are_flagged(folder, tools, words, kind, over, cut):
    (folder / "a.txt").write_text(" ".join(["cat"] * words))
    found = seen(folder, tools).pictures[0]
    assert (found.tokens, found.over_chunk, found.cut_off) == (words, over, cut)
    assert [flag for flag in kinds(found) if flag in ("long_caption", "cut_off")] == ([kind] if kind else [])


def test_what_is_wrong_with_pictures_is_flagged(tmp_path, tools):
    photo(1, (300, 300)).save(tmp_path / "small.png")
    photo(2).save(tmp_path / "x.png")
    shutil.copy(tmp_path / "x.png", tmp_path / "y.png")
    photo(2).save(tmp_path / "z.jpg", quality=60)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(3).save(tmp_path / "turned.jpg", exif=exif.tobytes())
    photo(4, (600, 600)).resize((40, 40)).resize((600, 600), Image.Resampling.BICUBIC).save(tmp_path / "soft.png")
    found = {picture.name: picture for picture in seen(tmp_path, tools).pictures}
    assert kinds(found["small.png"]) == ["small"] and "1.7 times" in found["small.png"].flags[0].message
    assert kinds(found["x.png"]) == ["duplicate", "near_duplicate"]
    assert [flag.others for flag in found["x.png"].flags] == [("y.png",), ("z.jpg",)]
    assert kinds(found["turned.jpg"]) == ["rotated"] and (found["turned.jpg"].width_px, found["turned.jpg"].height_px) == (512, 768)
    assert kinds(found["soft.png"]) == ["blurred"]


def test_files_that_are_not_used_are_told(folder, tools):
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "nobody.txt").write_text("orphan")
    (folder / "a.caption").write_text("second")
    found = seen(folder, tools)
    assert [path for path, _ in found.broken] == [str(folder / "broken.png")] and found.broken[0][1]
    assert found.orphans == (str(folder / "nobody.txt"),) and found.doubles == (str(folder / "a.caption"),)


def test_it_is_plain_json(folder, tools):
    found = dataclasses.asdict(seen(folder, tools))
    assert json.loads(json.dumps(found))["pictures"][0]["name"] == "a.jpg"


def test_neither_name_nor_trigger_is_needed_but_pictures_are(folder, tmp_path, tools):
    assert seen(folder, tools, method="textual_inversion").pictures[1].caption == "a photo of"
    with pytest.raises(InputError, match="does not exist"):
        seen(tmp_path / "nowhere", tools)
    with pytest.raises(InputError, match="resolution"):
        seen(folder, tools, data__resolution=100)


def test_a_fault_that_is_not_of_the_pictures_does_not_hide_them(folder, tools):
    assert seen(folder, tools, network__alpha=0, optimizer__name="none").pictures == seen(folder, tools).pictures


def test_a_second_view_decodes_nothing(folder, tools, monkeypatch):
    looks = Looks()
    first = seen(folder, tools, looks)
    for name in ("scan.examine", "look.decode"):
        monkeypatch.setattr(f"lib_finetune.data.{name}", lambda _: pytest.fail("decoded again"))
    assert seen(folder, tools, looks) == first


def test_a_picture_that_changed_is_looked_at_again(folder, tools):
    looks = Looks()
    seen(folder, tools, looks)
    time.sleep(0.02)
    photo(7, (300, 300)).save(folder / "a.jpg")
    assert kinds(seen(folder, tools, looks).pictures[0]) == ["small"]


def test_the_thumbnail_frames_the_part_that_is_kept(folder, tools):
    found = seen(folder, tools, data__buckets="false").pictures[0]
    image = thumbnail(found)
    assert image.size == (256, 171)
    plain = load_rgb(folder / "a.jpg").resize(image.size)
    left = round(found.crop[0] * 256 / 900)
    right = round(found.crop[2] * 256 / 900) - 1
    frame = (255, 140, 0)
    assert all(image.getpixel(place) == frame for place in ((left, 80), (right, 80), (128, 0), (128, 170)))
    assert frame not in (image.getpixel((left - 1, 80)), image.getpixel((right + 1, 80)), image.getpixel((128, 80)))
    assert sum(image.getpixel((left // 2, 80))) < 0.6 * sum(plain.getpixel((left // 2, 80))), "what is cut off lies in the shade"


def test_signs_in_captions_are_shown_as_they_are_read_and_counted(folder, tools):
    (folder / "a.txt").write_text("a (red:1.2) cat <lora:x:1>\none two three four five six seven eight")
    found = seen(folder, tools, data__class_word="cat")
    first, second = found.pictures
    assert (
        first.caption == "a red cat" and first.caption_varies and first.caption_text.endswith("\none two three four five six seven eight")
    )
    assert first.tokens == 8, "of the longest line"
    assert len(first.caption_meanings) == 3 and second.caption_meanings == ()
    assert len(found.notes) == 3
    assert any("weights" in note and " 1." in note for note in found.notes)


def test_what_should_be_known_of_all_pictures_is_told(folder, tools):
    (folder / "10 zxq").mkdir()
    shutil.move(folder / "b.png", folder / "10 zxq" / "b.png")
    (folder / "templates.md").write_text("a [name]")
    notes = seen(folder, tools, training__steps=1).notes
    assert [note.split(" ")[0] for note in notes] == ["1", "The", "The"]
    assert "1 of 2 are seen" in notes[1] and '"10_zxq"' in notes[2]
    own = seen(folder, tools, method="textual_inversion", name="zxqcat", embedding__template=folder / "templates.md").notes
    assert any("replace the captions of 1 of 2" in note for note in own)


# -- what is said of the folder and of what is lost ------------------------------------------------------------------


def test_each_kind_of_file_that_is_left_out_is_told_with_its_count(folder, tools):
    for name in ("a-masklabel.png", "a_mask.png"):
        photo(3, (300, 300)).save(folder / name)
    (folder / "Thumbs.db").write_bytes(b"x")
    found = seen(folder, tools)
    assert [picture.name for picture in found.pictures] == ["a.jpg", "b.png"]
    assert [(group.kind, group.count) for group in found.groups] == [("mask", 2), ("leftover", 1)]
    assert "Masks" in found.groups[0].message and "a_mask.png" in found.groups[0].message


def test_a_shared_caption_is_told_and_what_is_typed_for_one_leaves_the_other(folder, tools):
    photo(5, (900, 600)).save(folder / "a.png")
    found = {picture.name: picture for picture in seen(folder, tools).pictures}
    assert "shared_caption" in kinds(found["a.jpg"]) and "shared_caption" in kinds(found["a.png"])
    assert any("a.txt is the caption of a.jpg, a.png" in note for note in seen(folder, tools).notes)


def test_class_images_below_the_folder_are_not_shown_as_the_subjects(folder, tools):
    (folder / "others").mkdir()
    photo(5, (900, 600)).save(folder / "others" / "c.png")
    found = seen(folder, tools, data__class_images=folder / "others")
    assert [picture.name for picture in found.pictures] == ["a.jpg", "b.png"] and not found.problems


def test_one_folder_for_both_is_told_beside_the_pictures(folder, tools):
    found = seen(folder, tools, data__class_images=f"{folder}/")
    assert len(found.pictures) == 2 and [field for field, _ in found.problems] == ["data.class_images"]


def test_the_folders_of_kohyas_trainers_are_offered(tmp_path, tools):
    for number, name in enumerate(("img/10_zxq cat", "reg/1_cat", "log")):
        (tmp_path / name).mkdir(parents=True)
        photo(number).save(tmp_path / name / "x.png")
    found = seen(tmp_path, tools)
    assert [picture.name for picture in found.pictures] == ["img/10_zxq cat/x.png"]
    assert found.kohya == (str(tmp_path / "img"), str(tmp_path / "reg")) and any("kohya" in note for note in found.notes)


@pytest.mark.parametrize(("size", "cut"), [((1500, 1000), True), ((1499, 1000), False), ((1000, 2000), True), ((1000, 1000), False)])
def test_from_a_third_cut_off_it_is_said_and_the_crop_offered(tmp_path, tools, size, cut):
    photo(1, size).save(tmp_path / "a.png")
    found = seen(tmp_path, tools, data__buckets="false", data__trigger="zxq")
    flags = {flag.kind: flag.message for flag in found.pictures[0].flags}
    notes = [note for note in found.notes if "cut off" in note]
    assert ("cropped" in flags) == cut == bool(notes)
    if cut:
        assert "data.crop to focal" in flags["cropped"] and "data.buckets" in flags["cropped"] and "a.png" in notes[0]


def test_a_crop_that_is_chosen_already_is_not_offered(tmp_path, tools):
    photo(1, (400, 4000)).save(tmp_path / "a.png")
    (message,) = (flag.message for flag in seen(tmp_path, tools, data__crop="focal").pictures[0].flags if flag.kind == "cropped")
    assert "crop it yourself." in message and "%" in message


def test_colours_are_told_once_and_what_cannot_be_followed_by_picture(tmp_path, tools):
    for number in range(2):
        photo(number).save(tmp_path / f"{number}.jpg", icc_profile=profiles.display_p3())
    photo(3).save(tmp_path / "3.png", icc_profile=b"no profile")
    found = seen(tmp_path, tools)
    assert "Colours are brought to sRGB from what the files declare: 2 × Display P3." in found.notes
    assert ["profile_unread" in kinds(picture) for picture in found.pictures] == [False, False, True]


def test_an_hdr_gain_map_is_flagged(tmp_path, tools):
    photo(1).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    mark = b"http://ns.adobe.com/xap/1.0/\0http://ns.adobe.com/hdr-gain-map/1.0/"
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe1" + (len(mark) + 2).to_bytes(2, "big") + mark + data[2:])
    assert "gain_map" in kinds(seen(tmp_path, tools).pictures[0])


def test_a_second_view_reads_no_image_and_counts_no_caption_again(folder, tools, monkeypatch):
    looks = Looks()
    first = seen(folder, tools, looks, data__trigger="zxq")

    def again(*_, **__):
        raise AssertionError("looked at again")

    for place in ("lib_finetune.data.scan.read", "lib_finetune.data.look.read", "lib_finetune.preflight.dataset_report.count_tokens"):
        monkeypatch.setattr(place, again)
    assert seen(folder, tools, looks, data__trigger="zxq") == first


def test_another_tokenizer_counts_anew(tools):
    class Longer:
        def __call__(self, words, **_):
            return types.SimpleNamespace(input_ids=[1] * 30)

    looks = Looks()
    assert looks.tokens(tools.tokenizer, "a cat", "", 1) == 2
    assert looks.tokens(Longer(), "a cat", "", 1) == 30


def test_three_hundred_images_are_viewed_again_within_their_two_seconds(tmp_path, tools):
    """Counted in time of the processor, so that a busy machine changes little; the page has the rest of the two seconds."""
    for number in range(300):
        photo(number, (96, 64)).save(tmp_path / f"{number:03}.png")
        (tmp_path / f"{number:03}.txt").write_text(f"a cat on chair number {number}")
    looks = Looks()
    assert len(seen(tmp_path, tools, looks, data__trigger="zxq").pictures) == 300
    began = time.thread_time()
    seen(tmp_path, tools, looks, data__trigger="zxq")
    assert time.thread_time() - began < 1.5
