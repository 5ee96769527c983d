"""Settings to and from plain values."""

import json

import pytest

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError


def test_a_round_trip_through_json_keeps_everything():
    settings = codec.with_values(Settings(), [("network.rank", "32"), ("optimizer.unet_rate", "1e-3"), ("name", "cat")])
    assert codec.from_dict(json.loads(codec.to_json(settings))) == settings


def test_every_unknown_name_is_reported_with_the_nearest_one():
    with pytest.raises(InputError) as caught:
        codec.from_dict({"network": {"rnk": 4}, "traning": {"steps": 3}})
    text = str(caught.value)
    assert "network.rnk" in text and "network.rank" in text and "traning" in text and "training." in text


def test_an_unknown_name_without_its_section_finds_its_place():
    with pytest.raises(InputError, match="network.rank"):
        codec.with_values(Settings(), [("ranc", "4")])


@pytest.mark.parametrize(
    ("path", "value"), [("network.rank", "four"), ("network.rank", "4.5"), ("data.flip", "perhaps"), ("network.alpha", "x")]
)
def test_text_of_the_wrong_type_is_refused_by_name(path, value):
    with pytest.raises(InputError) as caught:
        codec.with_values(Settings(), [(path, value)])
    assert caught.value.problems[0].field == path


def test_a_boolean_is_no_number():
    with pytest.raises(InputError, match=r"network\.rank"):
        codec.from_dict({"network": {"rank": True}})


def test_auto_stands_for_the_automatic_value():
    settings = codec.with_values(Settings(), [("training.steps", "100"), ("training.steps", "auto")])
    assert settings.training.steps is None


def test_toml_and_json_files_give_the_same(tmp_path):
    (tmp_path / "a.toml").write_text('name = "cat"\n[network]\nrank = 4\n', encoding="utf-8")
    (tmp_path / "a.json").write_text('{"name": "cat", "network": {"rank": 4}}', encoding="utf-8")
    assert codec.load(tmp_path / "a.toml") == codec.load(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["name = ", "{", '["a"]'])
def test_a_broken_file_is_named(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json"):
        codec.load(file)


def test_a_file_of_a_newer_version_is_refused():
    with pytest.raises(InputError, match="version"):
        codec.from_dict({"version": 99})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(("name", "content"), [("a.toml", 'name = "süß"\r\n[network]\r\nrank = 4\r\n'), ("a.json", '{"name": "süß"}')])
def test_a_settings_file_may_begin_with_a_byte_order_mark(tmp_path, encoding, name, content):
    file = tmp_path / name
    file.write_bytes(content.encode(encoding))
    assert codec.load(file).name == "süß"


def test_a_settings_file_that_is_no_text_says_what_it_looks_like(tmp_path):
    file = tmp_path / "a.toml"
    file.write_bytes('name = "cat"'.encode("utf-16-le"))
    with pytest.raises(InputError, match=r"a\.toml.*looks like UTF-16"):
        codec.load(file)


def test_texts_are_composed_and_names_of_files_stay_by_the_letter():
    apart = "cafe\u0301"
    for settings in (
        codec.with_values(Settings(), [("name", apart), ("data.trigger", apart), ("data.images", f"/x/{apart}")]),
        codec.from_dict({"name": apart, "data": {"trigger": apart, "images": f"/x/{apart}"}}),
    ):
        assert (settings.name, settings.data.trigger, settings.data.images) == ("caf\u00e9", "caf\u00e9", f"/x/{apart}")
