"""Every method × precision × form on the pretend card: no mix-up of devices, and no transfer inside a step that is not named here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
_OLD = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 9)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("gradio") is not None, reason="runs on the set newest alone: it takes minutes"),
    pytest.mark.skipif(_OLD, reason="a device can be registered from Python since torch 2.9"),
]

PRECISIONS = {"fp32": ("float32", {}), "bf16": ("bfloat16", {}), "fp32 computed in bf16": ("float32", {"training.precision": "bf16"})}
"""Name → (the base's dtype, settings)."""
FORMS: dict[str, dict[str, str]] = {
    "lora": {},
    "lora, convolutions, dropout, average": {"network.conv_rank": "2", "network.dropout": "0.5", "training.ema_decay": "0.9"},
    "lora, checkpointing, two batches a step": {"training.gradient_checkpointing": "true", "training.accumulation": "2"},
    "lora, the base's own predictions": {"objective.prior": "prediction"},
    "loha": {"network.adapter": "loha"},
    "lokr": {"network.adapter": "lokr", "network.conv_rank": "2"},
    "textual inversion": {"method": "textual_inversion", "embedding.keep_norm": "true", "training.ema_decay": "0.9"},
    "pivotal tuning": {"method": "pivotal_tuning"},
    "dreambooth": {"method": "dreambooth"},
    "dreambooth, small": {
        "method": "dreambooth",
        "tuning.weights": "bf16",
        "tuning.in_backward": "on",
        "training.gradient_checkpointing": "true",
    },
    "dreambooth, exchange": {"method": "dreambooth", "tuning.host_weights": "exchange", "objective.prior": "off"},
}
OPTIMIZERS = {f"lora by {name}": {"optimizer.name": name} for name in ("adafactor", "lion", "prodigy")}
_LIBRARIES = {"loha": "lycoris", "lokr": "lycoris", "lora by lion": "lion_pytorch", "lora by prodigy": "prodigyopt"}

OF_LIBRARIES = {
    "loha": {("to card", "lycoris/modules/loha.py:get_weight")},  # its scale becomes a tensor in each module
    "lora by prodigy": {("value", "prodigyopt/prodigy.py:step")},  # its estimate is read in each step
}
"""Form → (kind, place) of transfers that a step may make, because a library makes them. We make none."""


def cases_of(form: str) -> list[tuple[str, str, dict[str, str]]]:
    """(precision, the base's dtype, settings)."""
    if form in OPTIMIZERS:
        return [("fp32", "float32", OPTIMIZERS[form])]
    return [(name, dtype, {**changes, **FORMS[form]}) for name, (dtype, changes) in PRECISIONS.items()]


def card_runs(folder: Path, cases: list[tuple[str, str, dict[str, str]]]) -> dict[str, Any]:
    """Name of a case → what its run told; in a process of their own, because a device stays registered."""
    listed = folder / "cases.json"
    listed.write_text(json.dumps(cases), encoding="utf-8")
    command = [sys.executable, "-m", "tests.fakes.card_runs", str(folder), str(listed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return dict(json.loads(line.removeprefix("CASE ")) for line in ended.stdout.splitlines() if line.startswith("CASE "))


def test_the_card_refuses_mix_ups_and_counts_transfers(tmp_path: Path) -> None:
    probes = card_runs(tmp_path, [])["probes"]
    assert probes["refused"] == [True] * 4 and probes["not waited for"] == 0
    assert probes["counted"] == [["to host"], ["value"], ["value"], ["value"], ["to card"], ["to host"]]


@pytest.mark.parametrize("form", [*FORMS, *OPTIMIZERS])
def test_a_run_mixes_no_devices_and_waits_for_no_transfer_in_a_step(tmp_path: Path, form: str) -> None:
    pytest.importorskip(_LIBRARIES.get(form, "torch"))
    outcomes = card_runs(tmp_path, cases_of(form))
    for name, _, _ in cases_of(form):
        outcome = outcomes[name]
        assert not outcome["error"], f"{name}: {outcome['traceback']}"
        assert outcome["device"] == "card"  # else autocast would be the CPU's, and cast nothing
        assert outcome["steps"] == 3 and outcome["finite"] and outcome["differences"] == []
        transfers = {(kind, place) for kind, place, _ in outcome["transfers"]}
        assert transfers <= OF_LIBRARIES.get(form, set()), name
