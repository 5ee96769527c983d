"""Templates of captions from people's files."""

import pytest

from lib_finetune.data.captions import template_caption
from lib_finetune.data.templates import load
from lib_finetune.errors import InputError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_list_of_templates_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    file = tmp_path / "own.txt"
    file.write_bytes("a süß [name]\r\n\r\nthe {}\r\n".encode(encoding))
    assert load(str(file), "embedding.template") == ("a süß {trigger}", "the {trigger}")


def test_a_list_that_is_no_text_says_what_it_looks_like(tmp_path):
    file = tmp_path / "own.txt"
    file.write_bytes("a [name]".encode("utf-16-le"))
    with pytest.raises(InputError, match="looks like UTF-16"):
        load(str(file), "embedding.template")


WEBUI = {
    "style_filewords.txt": ("a painting of [filewords], art by [name]", "a painting of {caption}, art by {trigger}"),
    "subject_filewords.txt": ("a photo of a [name], [filewords]", "a photo of a {trigger}, {caption}"),
    "subject.txt": ("a photo of a [name]", "a photo of a {trigger}"),
    "hypernetwork.txt": ("a photo of a [filewords]", "a photo of a {caption}"),
}


@pytest.mark.parametrize("name", WEBUI)
def test_the_webuis_own_templates_keep_the_place_of_the_caption(tmp_path, name):
    line, ours = WEBUI[name]
    (tmp_path / name).write_text(f"{line}\n", encoding="utf-8")
    (template,) = load(str(tmp_path / name), "embedding.template")
    assert template_caption(template, "zxq", "", "red hat") == template_caption(ours, "zxq", "", "red hat")


def test_a_line_without_a_place_for_word_or_caption_is_refused(tmp_path):
    (tmp_path / "none.txt").write_text("picture\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"'picture' has no \{trigger\}.*\[filewords\]"):
        load(str(tmp_path / "none.txt"), "embedding.template")


def test_notes_to_oneself_are_no_templates(tmp_path):
    (tmp_path / "own.txt").write_text("# mine\n#\na [name]\n", encoding="utf-8")
    assert load(str(tmp_path / "own.txt"), "embedding.template") == ("a {trigger}",)
