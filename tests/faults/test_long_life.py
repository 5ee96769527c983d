"""Many trainings in one process: its memory stays what it was.

10 jobs of 10 steps and 200 steps in a standard run; FINETUNE_FAULTS=all runs 100 jobs and 3000 steps.
"""

import dataclasses
import gc
import os
import time

import psutil
import pytest

from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ALL = os.environ.get("FINETUNE_FAULTS") == "all"
JOBS, STEPS = (100, 3000) if ALL else (10, 200)
MIB = 2**20


def memory() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / MIB


def settle(job, seconds=600):
    until = time.monotonic() + seconds
    while not job.ended and time.monotonic() < until:
        time.sleep(0.02)
    return job.state


def test_a_job_after_many_takes_no_more_memory_than_one_before(tmp_path):
    bench = Bench(tmp_path)
    jobs, sizes = Jobs(bench.host()), []
    for number in range(JOBS):
        chosen = dataclasses.replace(settings(bench.images, {"training.steps": "10"}), name=f"cat-{number:03d}")
        assert settle(jobs.submit(chosen)) == "done"
        sizes.append(memory())
    half = len(sizes) // 2  # by then caches of torch and of Python are filled
    growth = (sizes[-1] - sizes[half]) / (len(sizes) - 1 - half)
    print(
        f"{JOBS} jobs: {sizes[0]:.0f}, {sizes[half]:.0f}, {sizes[-1]:.0f} MiB after the first, the middle and the last; {growth:.2f} MiB a job"
    )
    assert growth < 1.0, sizes


def test_a_long_run_takes_no_more_memory_at_its_end(tmp_path):
    bench, sizes = Bench(tmp_path), []
    host = bench.host()
    jobs = Jobs(host)
    job = jobs.submit(settings(bench.images, {"training.steps": str(STEPS)}))
    until = time.monotonic() + 1500
    while not job.ended and time.monotonic() < until:
        sizes.append((job.progress.done, memory()))
        time.sleep(0.5)
    assert job.state == "done"
    steps = [(step, size) for step, size in sizes if step > STEPS // 3]
    growth = steps[-1][1] - steps[0][1]
    print(f"{STEPS} steps: {steps[0][1]:.0f} MiB at step {steps[0][0]}, {steps[-1][1]:.0f} MiB at step {steps[-1][0]}")
    assert growth < 8.0, steps
