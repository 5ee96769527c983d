"""Which image a mask file belongs to, by names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_finetune.data.mask_files import mask_files

FOLDER = Path("/pics")


@pytest.mark.parametrize(
    ("pictures", "mask", "owner"),
    [
        (["cat.jpg"], "cat_sam_mask.png", "cat.jpg"),
        (["cat.jpg"], "cat(mask).png", "cat.jpg"),
        (["cat.jpg", "cat_sam.jpg"], "cat_sam_mask.png", "cat_sam.jpg"),
        (["cat.jpg", "cat_face.jpg"], "cat_face_mask_2.png", "cat_face.jpg"),
        (["img/a.png"], "masks_train/a.png", "img/a.png"),
        (["10_zxq/a.png"], "zxq_masks/a.png", "10_zxq/a.png"),
    ],
)
def test_a_mask_belongs_to_the_image_whose_whole_name_it_holds(pictures, mask, owner):
    found = mask_files([FOLDER / mask], [FOLDER / name for name in pictures], FOLDER)
    assert found == {FOLDER / owner: (FOLDER / mask,)}
