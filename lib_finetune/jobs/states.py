"""The states of a job."""

from lib_finetune.runs.control import PAUSED

QUEUED, RUNNING, WAITING, DONE, STOPPED, DISCARDED, FAILED = "queued", "running", "waiting", "done", "stopped", "discarded", "failed"
INTERRUPTED, DAMAGED = "interrupted", "damaged"
ACTIVE = (RUNNING, WAITING, PAUSED)
ENDED = (DONE, STOPPED, DISCARDED, FAILED, INTERRUPTED, DAMAGED)
ALL = (QUEUED, *ACTIVE, *ENDED)
