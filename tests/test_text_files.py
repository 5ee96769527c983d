"""Text that people wrote is read as they meant it, or named as what it is."""

import codecs

import pytest
from PIL import Image

from lib_finetune.config import codec
from lib_finetune.data import templates
from lib_finetune.data.scan import scan
from lib_finetune.errors import InputError
from lib_finetune.text_files import MOST_BYTES, NotTextError, decoded, read

WORDS = "süßer 猫 \U0001f408"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_byte_order_marks_are_obeyed(mark, encoding, tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(mark + WORDS.encode(encoding))
    assert read(file) == WORDS


def test_a_mark_that_was_put_twice_is_no_letter():
    assert decoded(codecs.BOM_UTF8 * 2 + b"cat") == "cat"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_alike_whatever_the_system(end):
    assert decoded(f"a{end}b{end}".encode()) == "a\nb\n"


@pytest.mark.parametrize("content", [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_a_file_of_nothing_is_empty_text(content):
    assert decoded(content) == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Der kleine Bär läuft über die Straße, früh am Morgen, bei schönem Wetter.".encode("cp1252"), r"looks like (cp125\d|latin|iso)"),
        ("Маленький медведь идёт по улице рано утром, и погода хорошая.".encode("cp1251"), "looks like cp1251"),
        (
            "日本の小さな町で、古い神社の前に立っている着物の女性の写真です。空は青く、桜の花がきれいに咲いています。".encode("cp932"),
            r"looks like (shift-jis|cp932)",
        ),
        ("一只小猫在花园里睡觉，那是一个阳光明媚的早晨。".encode("gb18030"), r"looks like (gb\w+)"),
        ("a cat".encode("utf-16-le"), "looks like UTF-16 text without a byte order mark"),
        ("a cat".encode("utf-16-be"), "looks like UTF-16 text without a byte order mark"),
        ("a cat".encode("utf-32-le"), "looks like UTF-32 text without a byte order mark"),
        ("süß".encode("utf-16-le"), "looks like UTF-16 text without a byte order mark"),
        (codecs.BOM_UTF16_LE + b"abc", "begins as UTF-16 text and is damaged"),
        (codecs.BOM_UTF8 + b"\xff\xff", "begins as UTF-8 text and is damaged"),
        (codecs.BOM_UTF32_BE + b"abc", "begins as UTF-32 text and is damaged"),
        (b"a cat\0\0", "NUL bytes"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "NUL bytes"),
        (codecs.BOM_UTF8 + b"a\0b", "NUL bytes"),
    ],
)
def test_what_is_no_utf8_text_is_named(content, words):
    with pytest.raises(NotTextError, match=words):
        decoded(content)


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        ("Müller", "cp1252", "cp1252"),
        ("ein süßer Hund – groß", "cp1252", "cp1252"),
        ("“zxq” dog’s toy, a café", "cp1252", "cp1252"),
        ("żółta łódź", "cp1250", "cp1250"),
        ("кот", "cp1251", "cp1251"),
        ("милый кот", "koi8_r", "koi8-r"),
        ("1girl, ねこ", "cp932", "shift-jis"),
        ("可愛い猫", "cp932", "shift-jis"),
        ("可愛い猫", "euc_jp", "euc-jp"),
        ("1girl, 猫耳, 白发", "gb18030", "gb18030"),
        ("一隻可愛的貓", "big5", "big5"),
        ("고양이, a cat", "cp949", "cp949"),
    ],
)
def test_the_encoding_of_a_few_words_is_guessed(text, codec, name):
    with pytest.raises(NotTextError, match=f"looks like {name};"):
        decoded(text.encode(codec))


@pytest.mark.parametrize("content", ["süß\nund schön".encode()[:-2], "süß\nschön é".encode().replace("é".encode(), b"\xe9")])
def test_utf8_text_with_a_damaged_place_is_called_that(content):
    with pytest.raises(NotTextError, match="UTF-8 text that is damaged in line 2"):
        decoded(content)


def test_bytes_that_nothing_explains_are_no_text():
    with pytest.raises(NotTextError, match="is not UTF-8 text"):
        decoded(bytes(range(128, 256)) * 3)


def test_a_text_of_more_than_a_megabyte_is_refused_with_the_figure(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"a" * MOST_BYTES)
    assert len(read(file)) == 1_000_000
    file.write_bytes(b"a" * (MOST_BYTES + 1))
    with pytest.raises(NotTextError, match="it has 1,000,001 bytes, and such a text has at most 1,000,000"):
        read(file)


def test_captions_templates_and_settings_are_such_texts_and_a_table_of_captions_may_be_larger(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"a" * (MOST_BYTES + 1))
    row = '{"file_name": "a.png", "text": "a cat"}\n'
    (tmp_path / "metadata.jsonl").write_text(row + " " * (MOST_BYTES + 1))
    report = scan(tmp_path)
    assert [(path.name, "1,000,001 bytes" in reason) for path, reason in report.unread_captions] == [("a.txt", True)]
    assert report.pictures[0].caption == "a cat"
    for name, load in (("a.txt", lambda path: templates.load(str(path), "embedding.template")), ("a.json", codec.load)):
        (tmp_path / name).write_bytes(b"a" * (MOST_BYTES + 1))
        with pytest.raises(InputError, match="1,000,001 bytes"):
            load(tmp_path / name)
