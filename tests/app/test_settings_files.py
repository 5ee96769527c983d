import json
import shutil

import pytest

from lib_finetune.access import Folders
from lib_finetune.app import settings_files
from lib_finetune.config import codec
from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError
from tests.fakes.runs import Bench, settings

MINE = codec.with_values(
    Settings(), [("name", "anna"), ("data.images", "/a"), ("data.trigger", "zxq"), ("data.class_word", "woman"), ("network.rank", "48")]
)
OTHER = codec.with_values(Settings(), [("name", "rex"), ("data.images", "/b"), ("data.class_word", "dog"), ("network.alpha", "3")])


def test_a_preset_brings_its_values_and_leaves_the_subject(tmp_path):
    settings_files.save_preset(tmp_path, "sharp", MINE)
    found = settings_files.load_preset(tmp_path, "sharp", OTHER)
    assert [value_at(found, path) for path in settings_files.SUBJECT] == [value_at(OTHER, path) for path in settings_files.SUBJECT]
    assert (found.network.rank, found.network.alpha) == (48, 8.0)


def test_presets_are_listed_replaced_and_deleted(tmp_path):
    assert settings_files.preset_names(tmp_path) == []
    for name in ("b", "A", "b"):
        settings_files.save_preset(tmp_path, name, MINE)
    assert settings_files.preset_names(tmp_path) == ["A", "b"]
    settings_files.delete_preset(tmp_path, "A")
    assert settings_files.preset_names(tmp_path) == ["b"]
    for action in (settings_files.delete_preset, lambda data, name: settings_files.load_preset(data, name, MINE)):
        with pytest.raises(InputError, match="there are: b"):
            action(tmp_path, "A")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", ".hidden", "con", "a\\b"])
def test_a_name_that_leaves_the_folder_or_is_no_files_is_refused(tmp_path, name):
    for action in (lambda: settings_files.save_preset(tmp_path, name, MINE), lambda: settings_files.delete_preset(tmp_path, name)):
        with pytest.raises(InputError):
            action()
    assert not any(tmp_path.rglob("*"))


def test_an_exported_file_is_imported_and_tells_nothing_of_the_subject(tmp_path):
    file = tmp_path / "from-a-friend.json"
    file.write_text(settings_files.exported(MINE), encoding="utf-8")
    assert not any(word in file.read_text() for word in ("anna", "/a", "zxq", "woman"))
    assert settings_files.imported(file, OTHER).network.rank == 48
    file.write_text(json.dumps({"network": {"ranc": 3}}))
    with pytest.raises(InputError, match=r"network\.rank"):
        settings_files.imported(file, OTHER)


def test_a_whole_settings_file_is_imported_without_its_subject(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(codec.to_json(MINE))
    found = settings_files.imported(file, OTHER)
    assert (found.name, found.network.rank) == ("rex", 48)


def test_the_last_settings_come_back(tmp_path):
    assert settings_files.last(tmp_path) is None
    settings_files.keep_last(tmp_path, MINE)
    assert settings_files.last(tmp_path) == MINE
    (tmp_path / "last.json").write_text("{")
    assert settings_files.last(tmp_path) is None


METHODS = {
    "lora": {},
    "dreambooth": {"method": "dreambooth", "data.trigger": "sks"},
    "textual_inversion": {"method": "textual_inversion", "name": "zxqcat"},
}


@pytest.mark.parametrize("method", METHODS)
def test_the_settings_of_a_result_are_read_from_it(tmp_path, method):
    bench = Bench(tmp_path)
    result, _, host = bench.run({**METHODS[method], "training.steps": "2", "optimizer.weight_decay": "0.02"})
    found = settings_files.of_result(result.file, host.paths.data)
    assert found.missing == () and found.settings.data.images == str(bench.images)
    assert (found.settings.method, found.settings.name) == (method, result.file.stem)
    assert (found.settings.optimizer.weight_decay, found.settings.training.steps) == (0.02, 2)
    shutil.rmtree(host.paths.data / "runs")
    found = settings_files.of_result(result.file, host.paths.data)
    assert found.settings.data.images == "" and "'pictures' was not found" in found.missing[0]


def test_a_file_of_either_kind_is_told_apart_by_its_ending(tmp_path):
    files = settings_files.SettingsFiles(tmp_path, Folders(None))
    result = written(tmp_path / "a.safetensors", {"finetune_settings": json.dumps(codec.to_dict(OTHER))})
    settings, missing = files.from_file(str(result))
    assert settings.network == OTHER.network and "images" in missing[0]
    exported = tmp_path / "a.json"
    exported.write_text(json.dumps(codec.to_dict(OTHER)))
    now = codec.with_values(OTHER, {"name": "rex", "network.rank": "3"}.items())
    settings, missing = files.from_local_file(exported, now)
    assert (settings.name, settings.network, missing) == ("rex", OTHER.network, [])


def written(path, values):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, str(path), values)
    return path


def test_a_setting_of_another_version_is_left_out_and_told(tmp_path):
    values = codec.to_dict(OTHER)
    values["network"]["shape"] = "round"
    values["future"] = {"a": 1}
    found = settings_files.of_result(written(tmp_path / "a.safetensors", {"finetune_settings": json.dumps(values)}), tmp_path)
    assert found.settings.network == OTHER.network and [line.split()[0] for line in found.missing[:2]] == ["network.shape", "future"]


@pytest.mark.parametrize("told", [None, {}, {"finetune_settings": "{"}, {"finetune_settings": "3"}])
def test_a_file_without_settings_of_ours_is_refused(tmp_path, told):
    path = written(tmp_path / "a.safetensors", told) if told is not None else tmp_path / "gone.safetensors"
    with pytest.raises(InputError):
        settings_files.of_result(path, tmp_path)


def test_a_file_without_metadata_is_known_by_its_run(tmp_path):
    bench = Bench(tmp_path)
    pairs = {"method": "textual_inversion", "name": "zxqcat", "embedding.format": "pt", "training.steps": "1"}
    result, _, host = bench.run(pairs)
    found = settings_files.of_result(result.file, host.paths.data)
    assert found.missing == () and found.settings == settings(bench.images, pairs)
    shutil.rmtree(bench.images)
    assert "is gone" in settings_files.of_result(result.file, host.paths.data).missing[0]
    shutil.rmtree(host.paths.data / "runs")
    with pytest.raises(InputError, match="no run of this name"):
        settings_files.of_result(result.file, host.paths.data)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=name):
        settings_files.of_result(tmp_path / name, tmp_path)
