"""One program works in a folder; the same one may open it again and again."""

import gc
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib_finetune.app.services import services_of
from lib_finetune.errors import DependencyError, HostError, InputError
from lib_finetune.jobs import folder_lock as lock
from lib_finetune.jobs.queue import Jobs
from lib_finetune.runs.folder import STATE
from tests.fakes.runs import Bench, settings

ROOT = Path(__file__).resolve().parents[2]
OTHER = """
import sys
from pathlib import Path
from lib_finetune.jobs.folder_lock import FolderLock
held = FolderLock(Path(sys.argv[1]), "taken")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@contextmanager
def another_program(folder):
    """One that has the folder for as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def settle(job, seconds=60):
    until = time.monotonic() + seconds
    while not job.ended and time.monotonic() < until:
        time.sleep(0.02)
    return job.state


def test_a_filelock_of_before_3_11_locks_too(tmp_path, monkeypatch):
    import filelock

    real = filelock.FileLock
    monkeypatch.setattr(filelock, "FileLock", lambda lock_file: real(lock_file))  # knows no ``thread_local``
    held = lock.FolderLock(tmp_path / "folder", "taken")
    assert lock.in_use(tmp_path / "folder")
    held.release()
    assert not lock.in_use(tmp_path / "folder")


def test_a_second_server_is_refused_with_the_folder_and_starts_when_the_first_has_ended(bench):
    host = bench.host()
    with another_program(host.paths.data):
        for _ in range(2):
            with pytest.raises(HostError) as caught:
                Jobs(host)
            assert str(host.paths.data) in str(caught.value)
    assert settle(Jobs(host).submit(settings(bench.images))) == "done"


def test_a_program_that_is_killed_leaves_no_lock(bench):
    host = bench.host()
    with another_program(host.paths.data) as process:
        process.kill()
        process.wait(30)
        Jobs(host)


def test_the_same_program_opens_its_folder_again(bench):
    host = bench.host()
    first, second = Jobs(host), Jobs(host)
    with pytest.raises(HostError, match="taken"):
        claim_elsewhere(host.paths.data)
    del first
    gc.collect()
    with pytest.raises(HostError, match="taken"):
        claim_elsewhere(host.paths.data)
    assert second.known.all() == []
    del second
    gc.collect()
    claim_elsewhere(host.paths.data)


def claim_elsewhere(folder):
    """Take it in another program and give it back."""
    code = (
        "import sys; from pathlib import Path; from lib_finetune.jobs.folder_lock import FolderLock; FolderLock(Path(sys.argv[1]), 'taken')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(done.stderr)


def test_folders_are_told_apart_and_links_are_not(tmp_path):
    one, other, link = tmp_path / "one", tmp_path / "other", tmp_path / "link"
    held = lock.FolderLock(one, "taken")
    link.symlink_to(one)
    again = lock.FolderLock(link, "taken")
    claim_elsewhere(other)
    held.release()
    held.release()  # twice is once
    with pytest.raises(HostError, match="taken"):
        claim_elsewhere(one)
    again.release()
    claim_elsewhere(one)


def test_a_lock_may_be_released_by_another_thread(tmp_path):
    import threading

    held = lock.FolderLock(tmp_path, "taken")
    thread = threading.Thread(target=held.release)
    thread.start()
    thread.join()
    claim_elsewhere(tmp_path)


def test_without_filelock_it_is_said(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(DependencyError, match="pip install"):
        Jobs(bench.host())


@pytest.mark.parametrize("error", [PermissionError("read only"), NotImplementedError("no flock here"), OSError(95, "not supported")])
def test_where_nothing_can_be_locked_it_works_without(bench, monkeypatch, error):
    import filelock

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert settle(Jobs(bench.host()).submit(settings(bench.images))) == "done"


def test_a_run_that_another_program_works_on_is_not_gone_on_with(bench):
    host = bench.host()
    jobs = Jobs(host)
    job = jobs.submit(settings(bench.images, {"training.steps": "400"}))
    while not job.progress.losses:
        time.sleep(0.02)
    job.control.stop(keep=True)
    settle(job)
    assert (job.folder / STATE).is_file()
    services = services_of(jobs)
    with another_program(job.folder):
        with pytest.raises((HostError, InputError), match="another program"):
            services.trainings.resume(job.folder.name)
        from lib_finetune.cli import train_on

        with pytest.raises(HostError, match="another program"):
            train_on(host, settings(bench.images, {"training.steps": "400"}), resume=True)
    again = services.trainings.resume(job.folder.name)
    again.control.stop(keep=False)
    settle(again)


def test_a_run_is_locked_while_it_trains(bench):
    jobs = Jobs(bench.host())
    job = jobs.submit(settings(bench.images, {"training.steps": "400"}))
    while not job.progress.losses:
        time.sleep(0.02)
    with pytest.raises(HostError, match="taken"):
        claim_elsewhere(job.folder)
    job.control.stop(keep=False)
    settle(job)
    while True:  # the lock goes a moment after the job has ended
        try:
            claim_elsewhere(job.folder)
            break
        except HostError:
            time.sleep(0.05)


def test_the_page_without_the_webui_ends_with_a_message(tmp_path, capsys):
    from safetensors.torch import save_file

    from lib_finetune import __main__ as program
    from tests.fakes.host import tiny_tensors

    save_file(tiny_tensors(), tmp_path / "tiny.safetensors", metadata={"text_encoder_heads": "2"})
    root = tmp_path / "out"
    with another_program(root / ".finetune"):
        code = program.main(["ui", "--checkpoint", str(tmp_path / "tiny.safetensors"), "--output-root", str(root), "--port", "1"])
    assert code == 1 and str(root / ".finetune") in capsys.readouterr().err


def test_the_tab_stays_and_train_says_so(bench):
    pytest.importorskip("gradio")
    from lib_finetune.ui.tab import Tab

    host = bench.host()
    tab = Tab(lambda: services_of(Jobs(host)), list)
    tab.build()
    with another_program(host.paths.data):
        message = tab.storage.measure()
        assert "finetune-problems" in message and str(host.paths.data) in message
        shown = tab.refresh.poll({})[0]
        assert str(host.paths.data) in shown and "InUseError" not in shown
    free = tab.refresh.poll({})[0]
    assert str(host.paths.data) not in free and "finetune-problems" not in free
