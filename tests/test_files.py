"""Names of files that look the same."""

import pytest

from lib_finetune.errors import InputError
from lib_finetune.export.lora_file import refuse_taken
from lib_finetune.files import safe_name, same_name, standing

COMPOSED, APART = "caf\u00e9", "cafe\u0301"


def ignores_case(folder):
    (folder / "probe").write_text("")
    return (folder / "PROBE").exists()


def test_names_are_the_same_however_their_accents_are_made_up(tmp_path):
    assert same_name(COMPOSED, APART, tmp_path) and not same_name("cafe", APART, tmp_path)


def test_letter_case_counts_where_the_file_system_heeds_it(tmp_path):
    assert same_name("Cat", "cat", tmp_path) == ignores_case(tmp_path)


def test_letter_case_does_not_count_where_the_file_system_ignores_it(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.exists", lambda self: True)
    monkeypatch.setattr("pathlib.Path.samefile", lambda self, other: True)
    assert same_name("Cat", "cat", tmp_path) and same_name(COMPOSED.upper(), APART, tmp_path)


def test_a_file_stands_under_a_name_that_looks_the_same(tmp_path):
    (tmp_path / f"{APART}.txt").write_text("")
    assert standing(tmp_path / f"{COMPOSED}.txt") is not None and standing(tmp_path / "cafe.txt") is None
    assert standing(tmp_path / "nowhere" / f"{COMPOSED}.txt") is None


def test_the_name_of_a_result_is_taken_by_one_that_looks_the_same(tmp_path):
    (tmp_path / f"{APART}.safetensors").write_text("")
    with pytest.raises(InputError, match="exists already"):
        refuse_taken(tmp_path / f"{COMPOSED}.safetensors", overwrite=False)


def test_accents_do_not_fall_out_of_a_name():
    assert safe_name(APART) == COMPOSED
