"""The settings tree as JSON Schema."""

from lib_finetune.config import codec
from lib_finetune.config.schema import schema
from lib_finetune.config.settings import Settings


def properties(node, prefix=""):
    for name, inner in node["properties"].items():
        if "properties" in inner:
            yield from properties(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


def test_every_setting_is_in_it_with_its_default_and_range():
    found = dict(properties(schema()))
    leaves = codec.all_leaves()
    assert set(found) == {*leaves, "version"}
    assert all(found[path]["default"] == leaf.default for path, leaf in leaves.items())
    assert found["network.rank"]["minimum"] == 1 and found["network.rank"]["x-unit"] == "rank"
    assert found["training.steps"]["type"] == ["integer", "null"] and "lora" in found["method"]["enum"]


def test_what_the_codec_writes_has_no_name_that_is_not_in_it():
    def names(node):
        return {name: names(inner) for name, inner in node.items() if isinstance(inner, dict)}

    def allowed(node):
        return {name: allowed(inner) for name, inner in node["properties"].items() if "properties" in inner}

    assert names(codec.to_dict(Settings())) == allowed(schema())
