import io

import pytest
from PIL import Image

from lib_finetune.data.drawn_mask import file_of, is_painted_here, save
from lib_finetune.data.masks import with_masks
from lib_finetune.data.scan import scan


def painted(size=(128, 64), box=(0, 0, 64, 64)):
    content = io.BytesIO()
    mask = Image.new("RGB", size, "black")
    mask.paste("white", box)
    mask.save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    "theirs", ["cat_mask.png", "cat-mask.png", "CAT-FACE-mask.png", "masks/cat.png", "a mask/cat.png", "alpha/cat.png"]
)
def test_what_is_painted_counts_whatever_mask_there_was(paint, tmp_path, theirs):
    picture = paint("cat.jpg", size=(128, 64))
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_bytes(painted(box=(64, 0, 128, 64)))
    file = save(picture, (128, 64), painted(), "")
    pictures, unusable = with_masks(scan(tmp_path).pictures, "files")
    assert pictures[0].mask is not None and pictures[0].mask.path == file and not unusable
    assert (tmp_path / theirs).is_file()


def test_two_images_of_one_stem_are_painted_apart(paint, tmp_path):
    first, second = paint("cat.jpg", size=(128, 64)), paint("cat.png", size=(128, 64))
    assert [file_of(picture).name for picture in (first, second)] == ["cat.jpg-masklabel.png", "cat.png-masklabel.png"]
    (tmp_path / "cat-masklabel.png").write_bytes(painted(box=(0, 0, 128, 64)))
    file = save(first, (128, 64), painted(), "")
    masks = {picture.name: picture.mask.path.name for picture in with_masks(scan(tmp_path).pictures, "files")[0]}
    assert masks == {"cat.jpg": file.name, "cat.png": "cat-masklabel.png"}


def test_a_smaller_mask_is_brought_to_the_images_size(paint):
    picture = paint("cat.jpg", size=(1280, 640))
    file = save(picture, (1280, 640), painted((128, 64)), "")
    with Image.open(file) as mask:
        assert mask.size == (1280, 640) and mask.getpixel((600, 300)) == 255 and mask.getpixel((700, 300)) == 0


def test_it_is_known_again_as_painted_here(paint, tmp_path):
    file = save(paint("cat.jpg", size=(128, 64)), (128, 64), painted(), "")
    other = tmp_path / "dog-masklabel.png"
    other.write_bytes(painted())
    assert is_painted_here(file) and not is_painted_here(other) and not is_painted_here(tmp_path / "no.png")
