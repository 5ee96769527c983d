"""The log and the losses of a job, found again after a restart or a kill."""

import pytest

from lib_finetune.jobs.log_files import LogFiles
from lib_finetune.runs.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def test_lines_and_losses_come_back(folder):
    logs = LogFiles(folder.path)
    logs.add_line("12:00:00", 'Training "a, b" begins.')
    logs.add_line("12:00:01", "Über \udcff.")  # a name that is no UTF-8
    logs.add_losses(1, [0.5, 0.25])
    logs.add_losses(3, [0.125])
    again = LogFiles(folder.path)
    assert again.lines() == ['12:00:00 Training "a, b" begins.', "12:00:01 Über \\udcff."]
    assert again.losses() == [(1, 0.5), (2, 0.25), (3, 0.125)]


@pytest.mark.parametrize("row", ["4", "4,", "4,0.1x", "4,nan", "4,inf", "-4,0.1", "four,0.1", "4,0.1,2", "\udcff,0.1"])
def test_a_row_that_is_torn_or_no_number_is_passed_over(folder, row):
    logs = LogFiles(folder.path)
    logs.add_losses(1, [0.5])
    with folder.losses.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(row)
    assert logs.losses() == [(1, 0.5)]


def test_a_folder_that_is_gone_ends_nothing(tmp_path):
    logs = LogFiles(tmp_path / "gone")
    logs.add_losses(1, [0.5])
    logs.add_line("12:00:00", "lost")
    assert logs.losses() == [] and logs.lines() == []
