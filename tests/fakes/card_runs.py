"""Whole runs on the pretend card, in a process of their own: ``python -m tests.fakes.card_runs FOLDER CASES.json`` prints one JSON object a case."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any


def run_case(root: Path, changes: dict[str, str], dtype: str, device: Any) -> dict[str, Any]:
    """Train for three steps on the card and tell of it: transfers inside the last step, how many numbers changed devices, the error if any."""
    import torch

    from lib_finetune.training.loop import Trainer
    from tests.fakes import pretend_card
    from tests.fakes.runs import Bench, tensors

    bench = Bench(root, pictures=1)
    host = bench.host()
    held = {name: tensor.to(getattr(torch, dtype)) for name, tensor in host.held.tensors.items()}
    host.held.tensors = {name: tensor.to(device) for name, tensor in held.items()}
    host.held.device = device
    host._alphas = host._alphas.to(device)
    steps: list[Counter[tuple[str, str]]] = []
    one_step = Trainer._one_step

    def counted(self: Trainer, *args: Any) -> Any:
        pretend_card.TRANSFERS.clear()
        outcome = one_step(self, *args)
        steps.append(Counter((each.kind, each.place) for each in pretend_card.TRANSFERS))
        return outcome

    Trainer._one_step = counted  # type: ignore[method-assign]
    try:
        result = bench.run({"training.steps": "3", "name": "zxqcat", **changes}, host=host)[0]
    except Exception as error:  # noqa: BLE001  an edge: told to the test
        return {"error": f"{error!r}", "traceback": "".join(traceback.format_exception(error))[-6000:], "transfers": []}
    finally:
        Trainer._one_step = one_step  # type: ignore[method-assign]
    trained = tensors(result.file) if result.file else {}
    return {
        "error": "",
        "transfers": [[kind, place, count] for (kind, place), count in sorted(steps[-1].items())],
        "steps": len(steps),
        "device": host.device.type,
        "finite": bool(trained) and all(bool(value.float().isfinite().all()) for value in trained.values()),
        "differences": list(result.restoration.differences),
    }


def probes(device: Any) -> dict[str, Any]:
    """Whether the card refuses and counts what a real one would."""
    import torch

    from tests.fakes import pretend_card

    here, there = torch.ones(2), torch.ones(2, device=device)
    refused = []
    for mixed in (
        lambda: here + there,
        lambda: torch.cat([there, here]),
        lambda: there.add_(here),
        lambda: torch.nn.functional.mse_loss(there, here),
    ):
        try:
            mixed()
        except RuntimeError as error:
            refused.append("same device" in str(error))
    counted = []
    for moved in (
        there.cpu,
        lambda: there.sum().item(),
        lambda: bool((there > 0).all()),
        there.tolist,
        lambda: here.to(device),
        lambda: here.copy_(there),
    ):
        pretend_card.TRANSFERS.clear()
        moved()
        counted.append([each.kind for each in pretend_card.TRANSFERS])
    pretend_card.TRANSFERS.clear()
    here.to(device, non_blocking=True)
    return {"refused": refused, "counted": counted, "not waited for": len(pretend_card.TRANSFERS)}


def main() -> None:
    from tests.fakes import pretend_card

    folder, cases = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    device = pretend_card.register()
    print("CASE " + json.dumps(["probes", probes(device)]), flush=True)
    for number, (name, dtype, changes) in enumerate(cases):
        outcome = run_case(folder / str(number), changes, dtype, device)
        print("CASE " + json.dumps([name, outcome]), flush=True)


if __name__ == "__main__":
    main()
