"""The progress of a job, as it is found again after a restart."""

import json

from lib_finetune.jobs.log_files import LogFiles
from lib_finetune.jobs.progress import JobProgress
from lib_finetune.ports.events import PreviewRow
from lib_finetune.runs.folder import RunFolder


def test_what_an_earlier_session_left_is_shown_again(tmp_path):
    row = {"step": 20, "kinds": ["subject"], "prompts": ["a cat"], "seeds": [1], "files": ["previews/000020/0.png"]}
    index = {"rows": [row], "figures": {"colour drift": [[10, 0.5], [20, 0.25]]}}
    RunFolder(tmp_path).previews_index.write_text(json.dumps(index))
    logs = LogFiles(tmp_path)
    logs.add_line("12:00:00", "Training begins.")
    logs.add_losses(19, [0.5, 0.25])
    progress = JobProgress(logs, lambda: None)
    progress.recall(tmp_path)
    assert progress.rows == {20: PreviewRow(20, ("subject",), ("a cat",), (1,), ("previews/000020/0.png",))}
    assert progress.figures["colour drift"] == {10: 0.5, 20: 0.25}
    assert (list(progress.lines), progress.line_count) == (["12:00:00 Training begins."], 1)
    assert (progress.losses, progress.done, progress.total) == ([(19, 0.5), (20, 0.25)], 20, 20)


def test_the_validation_loss_is_found_again_after_a_restart(tmp_path):
    before = JobProgress(LogFiles(tmp_path))
    for step, loss in ((10, 0.5), (20, 0.25), (20, 0.25), (10, 0.125)):  # a run that resumed at step 0 measures step 10 anew
        before.figure("validation", step, loss)
    before.figure("colour drift", 10, 1.0)
    again = JobProgress(LogFiles(tmp_path))
    again.recall(tmp_path)
    assert again.figures == {"validation": {10: 0.125, 20: 0.25}}
    assert RunFolder(tmp_path).validation.read_text(encoding="utf-8").split() == ["10,0.5", "20,0.25", "10,0.125"]
