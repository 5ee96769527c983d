"""Templates of captions from people's files."""

import pytest

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
