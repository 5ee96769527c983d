"""Whatever bytes a person's file holds, a reader answers with its content or with its own error: never with another, and soon.

Drawn by Hypothesis, the same examples in each run; and the corpus of files that once broke us (`corpus.py`).
"""

import math
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_finetune.config import codec, validation
from lib_finetune.config.settings import Settings
from lib_finetune.data import caption_syntax, captions, images, scan
from lib_finetune.errors import InputError
from lib_finetune.export import embedding_file, lora_file
from lib_finetune.model import safetensors_reader, tensor_file, weights_file
from lib_finetune.text_files import NotTextError, decoded
from tests.security import corpus

SOME = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)  # fmt: skip
NAMES = sorted(codec.all_leaves())
TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # halves of characters too
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.integers(10**300, 10**310))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12)


# --- settings ---------------------------------------------------------------------------------------------------------


def checked(read):
    """What a reader of settings answers: settings that can be written and read again, or problems with text."""
    try:
        found = read()
        validation.validate(found, but=("name", "data.images"))
    except InputError as error:
        problems = error.problems
    else:
        assert isinstance(found, Settings) and codec.from_dict(codec.to_dict(found)) == found
        return found
    assert problems and all(problem.message for problem in problems)
    return None


@SOME
@given(st.dictionaries(st.sampled_from(NAMES) | TEXT, VALUES, max_size=6))
def test_any_values_are_settings_or_problems(values):
    nested = {}
    for path, value in values.items():
        *sections, leaf = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                return
        place[leaf] = value
    checked(lambda: codec.from_dict(nested))


@SOME
@given(st.lists(st.tuples(st.sampled_from(NAMES), TEXT | st.integers().map(str) | st.floats().map(str)), max_size=5))
def test_any_texts_for_settings_are_settings_or_problems(pairs):
    checked(lambda: codec.with_values(Settings(), pairs))


@SOME
@given(st.sampled_from(NAMES), st.floats(allow_nan=True))
def test_no_limit_lets_through_what_is_no_number(path, value):
    try:
        found = codec.with_values(Settings(), [(path, repr(value))])
        validation.validate(found, but=("name", "data.images"))
    except InputError:
        return
    held = codec.all_leaves()[path].type
    assert held is not float or math.isfinite(value)


@SOME
@given(st.binary(max_size=200) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), st.sampled_from(["x.toml", "x.json"]))
def test_any_bytes_of_a_settings_file_are_settings_or_problems(content, name):
    checked(lambda: codec.parsed(content, Path(name)))


@pytest.mark.parametrize("name", list(corpus.SETTINGS))
@pytest.mark.parametrize("file", ["x.json", "x.toml"])
def test_settings_that_once_broke_us(name, file):
    assert checked(lambda: codec.parsed(corpus.SETTINGS[name][1](), Path(file))) is None


# --- captions ---------------------------------------------------------------------------------------------------------

SYNTAX = st.text(st.sampled_from("()[]{}|:,\\<> \n#.0123456789ab_\u3000\u202e字é"), max_size=80)


@SOME
@given(st.binary(max_size=300))
def test_any_bytes_of_a_caption_are_text_or_told_apart(content):
    try:
        text = decoded(content)
    except NotTextError as error:
        text = str(error)
    assert "\0" not in text and "\r" not in text and not text.startswith("\ufeff") and (text or not content)


@SOME
@given(SYNTAX | TEXT)
def test_any_caption_is_read_and_its_meanings_are_plain(text):
    reading = caption_syntax.read(text)
    assert reading is not None
    for meaning in caption_syntax.meanings(text)[:5]:
        assert caption_syntax.tidied(meaning) == meaning
        assert isinstance(captions.with_trigger(meaning, "zxq"), str) and isinstance(
            captions.class_version(meaning, "zxq", "cat", "a cat"), str
        )
    assert isinstance(captions.filled(text, "zxq", "cat"), str)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", list(corpus.TEXTS))
def test_captions_that_once_broke_us(name):
    try:
        text = decoded(corpus.TEXTS[name][1]())
    except NotTextError:
        return
    assert all(isinstance(meaning, str) for meaning in caption_syntax.meanings(text))


# --- images -----------------------------------------------------------------------------------------------------------


def seen(content, path):
    """What the scan says of an image: its size, or why not, in words."""
    path.write_bytes(content)
    found = scan.examined(path)
    assert (isinstance(found, str) and found) or isinstance(found, scan.Examined)
    if isinstance(found, scan.Examined):
        with suppress(InputError):
            assert images.load_rgb(path).mode == "RGB"
    return found


@SOME
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]), st.lists(st.integers(0, 10**6), min_size=1, max_size=8), st.data())
def test_an_image_with_any_bytes_changed_is_read_or_refused(tmp_path, kind, places, data):
    values = data.draw(st.lists(st.integers(0, 255), min_size=len(places), max_size=len(places)))
    for content in corpus.mutations(corpus.image(kind), places, values):
        seen(content, tmp_path / "a.png")


@SOME
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x10\0\0\0WEBPVP8 ", b"GIF89a", b"II*\0", b"BM"]),
)
def test_any_bytes_are_no_image_and_said_so(tmp_path, content, beginning):
    seen(beginning + content, tmp_path / "a.png")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", list(corpus.IMAGES))
def test_images_that_once_broke_us(tmp_path, name):
    assert isinstance(seen(corpus.IMAGES[name][1](), tmp_path / "a.png"), str)


# --- weights ----------------------------------------------------------------------------------------------------------


def tried(content, path):
    """Every reader of people's weights, on one file; how many took it."""
    path.write_bytes(content)
    taken = 0
    for read in (
        lambda: lora_file.read(path, "network.start"),
        lambda: embedding_file.read(path, "embedding.init"),
        lambda: weights_file.metadata(path, "x"),
    ):
        try:
            read()
            taken += 1
        except InputError as error:
            str(error).encode("utf-8")  # what is said can be shown
    with suppress(InputError), weights_file.opened(path, "x") as weights:
        for entry in weights.tensors.values():
            entry.value()
    with suppress(ValueError):
        tensor_file.metadata_in(content)
    with suppress(OSError, ValueError):
        safetensors_reader.metadata(path)
    return taken


SIZES = st.integers(-3, 70) | st.sampled_from([2**31, 2**62, 2**63, 10**30])
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F8_E5M2", "U8", "X", ""]) | SCALARS,
        "shape": st.lists(SIZES, max_size=4) | SCALARS,
        "data_offsets": st.lists(SIZES, min_size=2, max_size=2) | st.lists(SIZES, max_size=3) | SCALARS,
        "more": SCALARS,
    },
)
HEADERS = st.dictionaries(TEXT | st.sampled_from([f"{corpus.MODULE}.alpha", "emb_params", "__metadata__"]), ENTRIES | VALUES, max_size=4)


@SOME
@given(HEADERS, st.binary(max_size=80))
def test_any_header_of_a_safetensors_is_read_or_refused(tmp_path, header, data):
    tried(corpus.safetensors(header, data), tmp_path / "x.safetensors")


@SOME
@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_no_weights_and_said_so(tmp_path, content, length):
    for whole in (content, struct.pack("<Q", length) + content):
        for name in ("x.safetensors", "x.pt"):
            tried(whole, tmp_path / name)


@SOME
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), st.lists(st.integers(0, 255), min_size=6, max_size=6), st.booleans())
def test_weights_with_any_bytes_changed_are_read_or_refused(tmp_path, places, values, old):
    import torch

    tensors = {"emb_params": torch.ones(2, 8)}
    whole = corpus.pickled({"string_to_param": {"*": tensors["emb_params"]}, "name": "e"}) if old else corpus.save(tensors)
    for content in corpus.mutations(whole, places, values):
        tried(content, tmp_path / ("x.pt" if old else "x.safetensors"))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", list(corpus.WEIGHTS))
@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_weights_that_once_broke_us(tmp_path, name, ending):
    path = tmp_path / f"x.{ending}"
    tried(corpus.WEIGHTS[name][1](), path)
    with pytest.raises(InputError):
        lora_file.read(path, "network.start")


def test_the_readers_take_what_is_whole(tmp_path):
    """Or the tests above would pass with readers that refuse everything."""
    import torch

    assert tried(corpus.save({"emb_params": torch.ones(2, 8)}), tmp_path / "x.safetensors") == 2
    assert not isinstance(seen(corpus.image("PNG", 600), tmp_path / "a.png"), str)
    assert checked(lambda: codec.parsed(b'{"training": {"steps": 7}}', Path("x.json"))).training.steps == 7
