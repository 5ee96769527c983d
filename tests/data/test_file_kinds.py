"""What files in people's folders are, by name and neighbours alone."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from PIL import Image

from lib_finetune.data.file_kinds import FileKind, companion_of, kinds_of, kohya_root, unclear_folders


def kinds(*names: str) -> dict[str, FileKind]:
    return {path.as_posix(): kind for path, kind in kinds_of(map(PurePosixPath, names)).items()}


@pytest.mark.parametrize(
    "mask",
    [
        "cat-masklabel.png",
        "cat_mask.png",
        "cat.mask.png",
        "cat-mask.jpg",
        "CAT_MASK.PNG",
        "cat mask.png",
        "catmask.png",
        "mask_cat.png",
        "cat_mask_0.png",
        "cat.jpg.mask.png",
        "cat_alpha_mask.png",
        "cat-mask-composite.png",
        "cat_alpha.png",
        "cat_segmentation.png",
        "cat_sam_mask.png",
        "cat_background-mask.jpg",
        "cat_loss_mask.png",
        "cat_lossmask.png",
        "cat(mask).png",
        "cat (mask).png",
        "cat_[mask].png",
        "cat_msk.png",
        "cat.MASK.WEBP",
        "cat_hair_mask_2.png",
        "cat_蒙版.png",
    ],
)
def test_a_mask_beside_its_picture_is_no_picture(mask):
    assert kinds("cat.jpg", mask) == {"cat.jpg": FileKind.PICTURE, mask: FileKind.MASK}


@pytest.mark.parametrize("name", ["cat-condlabel.png", "cat_control.png", "cat.depth.jpg", "cat_canny.png", "cat-openpose.png"])
def test_a_control_image_beside_its_picture_is_no_picture(name):
    assert kinds("cat.png", name)[name] is FileKind.CONTROL


@pytest.mark.parametrize("name", ["carnival_mask.png", "mask.png", "mask_3.png", "unmask.png", "masked ball.png", "x_depth.png"])
def test_without_a_picture_of_its_own_a_name_with_mask_in_it_is_a_picture(name):
    assert kinds("cat.png", name)[name] is FileKind.PICTURE


def test_a_label_of_onetrainer_is_a_mask_without_its_picture_too():
    assert kinds("gone-masklabel.png", "gone-condlabel.png") == {
        "gone-masklabel.png": FileKind.MASK,
        "gone-condlabel.png": FileKind.CONTROL,
    }


def test_the_ending_mask_is_a_mask():
    assert kinds("cat.png", "cat.mask")["cat.mask"] is FileKind.MASK


@pytest.mark.parametrize(
    "folder",
    [
        "mask",
        "masks",
        "Masks",
        "_masks",
        "alpha_masks",
        "masklabel",
        "10_zxq/mask",
        "mask/10_zxq",
        "img_masks",
        "masks_train",
        "train-masks",
        "zxq_masks",
        "Mask_512",
        "masks2",
        "loss masks",
        "segmentation_masks",
        "masks_png",
        "ground_truth",
        "Masken",
        "遮罩",
    ],
)
@pytest.mark.parametrize("name", ["a.png", "A.JPG", "a_mask.png", "a.jpg.png"])
def test_a_folder_of_masks_mirrors_the_names_of_the_pictures(folder, name):
    mask = f"{folder}/{name}"
    assert kinds("10_zxq/a.jpg", "10_zxq/b.jpg", mask, f"{folder}/a.txt") == {
        "10_zxq/a.jpg": FileKind.PICTURE,
        "10_zxq/b.jpg": FileKind.PICTURE,
        mask: FileKind.MASK,
        f"{folder}/a.txt": FileKind.MASK,
    }


@pytest.mark.parametrize(("plain", "masked"), [("without_mask", "with_mask"), ("faces", "wearing masks"), ("no_mask", "mask-on")])
def test_people_with_masks_and_without_are_pictures_though_their_files_are_numbered_alike(plain, masked):
    assert set(kinds(f"{plain}/1.png", f"{masked}/1.png").values()) == {FileKind.PICTURE}


@pytest.mark.parametrize(
    "folder", ["conditioning", "control", "_controls", "depth", "conditioning_images", "openpose", "conditioning_data_dir"]
)
def test_a_folder_of_control_images_mirrors_the_names_of_the_pictures(folder):
    assert kinds("a.jpg", f"{folder}/a.depth.jpg", f"{folder}/a.png")[f"{folder}/a.png"] is FileKind.CONTROL


def test_masks_whose_pictures_were_deleted_go_with_those_of_their_folder():
    assert kinds("a.png", "masks/a.png", "masks/b.png")["masks/b.png"] is FileKind.MASK


def test_pictures_of_masks_in_a_folder_of_that_name_are_pictures_and_it_can_be_told():
    found = kinds("faces/anna.png", "masks/venice.png")
    assert set(found.values()) == {FileKind.PICTURE}
    assert unclear_folders({PurePosixPath(name): kind for name, kind in found.items()}) == [PurePosixPath("masks")]


@pytest.mark.parametrize("name", ["10_venetian masks/a.png", "5_zxq mask/a.png", "5_zxq cache/a.png"])
def test_a_folder_of_kohya_is_never_one_of_masks(name):
    assert kinds("3_face/a.png", name)[name] is FileKind.PICTURE


@pytest.mark.parametrize("folder", ["optimized", "thumbs", "backup"])
def test_copies_are_left_out_where_all_have_the_names_of_pictures(folder):
    assert kinds("a.png", f"{folder}/a.webp")[f"{folder}/a.webp"] is FileKind.COPY
    assert kinds("a.png", f"{folder}/a.webp", f"{folder}/b.webp")[f"{folder}/a.webp"] is FileKind.PICTURE


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".JPE", ".pjpeg", ".pjp", ".JPEG", ".WebP"])
def test_endings_that_browsers_and_cameras_write_are_pictures(ending):
    assert kinds("a" + ending)["a" + ending] is FileKind.PICTURE


@pytest.mark.parametrize(
    "ending",
    [
        ".gif",
        ".tif",
        ".TIFF",
        ".apng",
        ".ppm",
        ".tga",
        ".ico",
        ".mpo",
        ".dds",
        ".CR3",
        ".dng",
        ".psd",
        ".svg",
        ".jxl",
        ".aseprite",
        ".cdr",
        ".jls",
    ],
)
def test_other_pictures_are_named_as_such(ending):
    assert kinds("a" + ending)["a" + ending] is FileKind.OTHER_PICTURE


@pytest.mark.parametrize("ending", [".heic", ".HEIF", ".hif"])
def test_heic_is_read_where_pillow_reads_it(ending, monkeypatch):
    assert kinds("a" + ending)["a" + ending] is FileKind.OTHER_PICTURE
    Image.init()
    monkeypatch.setitem(Image.EXTENSION, ending.lower(), "PNG")
    assert kinds("a" + ending)["a" + ending] is FileKind.PICTURE


@pytest.mark.parametrize(
    "name",
    [
        "Thumbs.db",
        "thumbs.DB",
        "desktop.ini",
        ".DS_Store",
        "._cat.jpg",
        "._cat.txt",
        ".aitk_size.json",
        "@eaDir/cat.jpg/SYNOFILE_THUMB_XL.jpg",
        "__MACOSX/cat.jpg",
        ".ipynb_checkpoints/cat-checkpoint.png",
        ".thumbnails/cat.png",
        "cat.jpg.part",
        "cat.png.crdownload",
        "cat.png~",
        "cat (Anna's conflicted copy 2024-01-02).png",
        "cat.sync-conflict-20240102-101010-ABCDEFG.png",
        "cat_conflict-20240102-101010.png",
        "cat (conflicted copy).txt",
        "cat (SFConflict anna@x.org 2024-01-02).png",
        "cat (Case Conflict).png",
        "cat.jpg:Zone.Identifier",
        "cat.txt.bak",
        "$RECYCLE.BIN/cat.png",
        "~$cat.docx",
        "cat.AAE",
        "cat.png.tmp",
        "cat.jpg@SynoEAStream",
        "#recycle/cat.png",
        "cat.lnk",
        "Trip.lrcat",
        "Trip Previews.lrdata/a/cat.jpg",
    ],
)
def test_what_systems_and_programs_leave_behind_is_no_picture(name):
    assert kinds("cat.png", name)[name] is FileKind.LEFTOVER


@pytest.mark.parametrize("name", ["cat conflict.png", "conflict-zone.png", "cat (1).png", "cat (2).jpg", "partly.png"])
def test_names_that_only_look_like_leftovers_are_pictures(name):
    assert kinds(name)[name] is FileKind.PICTURE


@pytest.mark.parametrize(
    "name",
    [
        "cat.npz",
        "cat_0512x0768_sd.npz",
        "cat_te_outputs.npz",
        "cat_te.safetensors",
        "cat.pt",
        "_latent_cache/cat.safetensors",
        "cache/x.png",
        "latents/cat.png",
        "_t_e_cache/cat.bin",
    ],
)
def test_caches_are_no_pictures(name):
    assert kinds("cat.png", name)[name] is FileKind.CACHE


@pytest.mark.parametrize(
    "name",
    [
        "sample/a.png",
        "samples/a.png",
        "Samples/2024/a.png",
        "log/a.png",
        "output/a.png",
        "results/a.txt",
        "txt2img-images/2024-01-02/0.png",
        "txt2img-grids/grid-0001.png",
        "grid-0001.png",
        "xyz_grid-0001-123.png",
        "cat.preview.png",
        "lora/a.png",
        "previews/a.png",
        "training_samples/a.png",
        "validation-images/a.png",
        "generated/a.png",
        "checkpoint-500/a.png",
    ],
)
def test_samples_and_results_are_no_pictures(name):
    assert kinds("cat.png", "lora/cat.safetensors", name)[name] is FileKind.RESULT


def test_a_folder_named_models_without_weights_holds_pictures():
    assert kinds("models/anna.png")["models/anna.png"] is FileKind.PICTURE


@pytest.mark.parametrize(
    "folder",
    [
        "reg",
        "Reg",
        "regularization",
        "class_images",
        "class-images",
        "Regularization-Images-person_ddim",
        "regularisation_cat",
        "prior_images",
        "reg_images_man",
        "man_class_images",
        "class_dir",
        "regularizations",
    ],
)
def test_a_folder_of_class_images_by_its_name_is_not_the_subjects(folder):
    assert kinds("10_zxq/a.png", f"{folder}/1_cat/b.png")[f"{folder}/1_cat/b.png"] is FileKind.CLASS_IMAGE


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("instance/a.png", "class/b.png"), FileKind.CLASS_IMAGE),
        (("instance_images/a.png", "Class/b.png"), FileKind.CLASS_IMAGE),
        (("img/10_zxq/a.png", "class/1_cat/b.png"), FileKind.CLASS_IMAGE),
        (("teachers/a.png", "class/b.png"), FileKind.PICTURE),
        (("a.png", "reg_presley/b.png"), FileKind.PICTURE),
        (("a.png", "5_reg/b.png"), FileKind.PICTURE),
    ],
)
def test_a_folder_named_class_is_one_of_class_images_beside_that_of_the_instance_alone(names, kind):
    assert kinds(*names)[names[1]] is kind


@pytest.mark.parametrize(
    "name",
    [
        "cat.png.supplemental-metadata.json",
        "cat.png.suppl.json",
        "cat.png(1).json",
        "cat.png.s.json",
        "cat.prompt",
        "cat.wdtags",
        "cat.Florence2",
    ],
)
def test_what_tells_of_an_image_under_its_name_is_no_settings_file(name):
    assert kinds("cat.png", name)[name] is FileKind.OTHER_CAPTION


@pytest.mark.parametrize(
    "name",
    ["metadata.jsonl", "meta_cap.json", "meta_lat.json", "cat.json", "cat.tags", "captions.csv", "metadata.csv", "cat.xmp", "cat.wd14"],
)
def test_captions_in_another_form_are_named_as_such(name):
    assert kinds("cat.png", name)[name] is FileKind.OTHER_CAPTION


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("config.toml", FileKind.SETTINGS),
        ("dataset.json", FileKind.SETTINGS),
        ("cat.zip", FileKind.ARCHIVE),
        ("cat.mp4", FileKind.VIDEO),
        ("IMG_1.MOV", FileKind.VIDEO),
        ("a.exe", FileKind.UNKNOWN),
        ("cat", FileKind.UNKNOWN),
        ("cat.jpg_large", FileKind.UNKNOWN),
        ("cat.txt", FileKind.CAPTION),
        ("cat.png.txt", FileKind.CAPTION),
        ("cat.CAPTION", FileKind.CAPTION),
    ],
)
def test_no_file_is_without_a_kind(name, kind):
    assert kinds("cat.png", name)[name] is kind


def test_every_ending_of_a_list_has_one_kind():
    from lib_finetune.data.file_kinds import _BY_ENDING

    endings = [ending for listed in _BY_ENDING.values() for ending in listed.split()]
    assert len(endings) == len(set(endings)) and all(ending == ending.lower() and ending[0] == "." for ending in endings)


@pytest.mark.parametrize(
    ("names", "root"),
    [
        (["img/10_zxq/a.png", "reg/1_cat/b.png", "model/x.safetensors", "log/x"], ("img", "reg")),
        (["Image/10_zxq/a.png", "log/x"], ("Image", None)),
        (["images/10_zxq/a.png", "logs/x", "models/y"], ("images", None)),
        (["image/10_zxq/a.png", "Regularization/1_cat/b.png"], ("image", "Regularization")),
        (["10_zxq/a.png", "reg/1_cat/b.png"], None),
        (["images/a.png", "captions/a.txt"], None),
        (["a.png"], None),
    ],
)
def test_the_layout_of_kohyas_trainers_is_recognised(names, root):
    assert kohya_root(map(PurePosixPath, names)) == root


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("cat.txt", "cat.png"),
        ("cat.jpg.txt", "cat.jpg"),
        ("CAT.TXT", "cat.png"),
        ("cat_mask.png", "cat.png"),
        ("cat-masklabel.png", "cat.png"),
        ("dog.txt", None),
        ("sub/cat.txt", None),
        ("cat.png", "cat.jpg"),
    ],
)
def test_what_belongs_to_a_picture_is_known_by_its_name(name, picture):
    found = companion_of(PurePosixPath(name), map(PurePosixPath, ("cat.png", "cat.jpg")))
    assert found == (PurePosixPath(picture) if picture else None)
