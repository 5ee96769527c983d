"""Training the nano checkpoint and the judge from nothing: ``python -m bench nano train [stage ...] --state DIR``.

Every stage continues where a killed run left it, so the same command is typed again until all is done. Seeds
are fixed: what a step sees depends on its number alone.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import autoencoder, checkpoint, evaluate, judge, latents, layout, painter, stage

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How long each stage trains; what made the committed checkpoint are the defaults."""

    state: Path
    seed: int = 0
    judge_steps: int = 1500
    autoencoder_steps: int = 800
    text_steps: int = 300
    pictures: int = 12000
    painter_steps: int = 3000
    pastel_steps: int = 600
    exam: int = 200
    stop_at: float | None = None


def autoencoder_stage(plan: Plan) -> None:
    """Train the autoencoder's decoder."""
    autoencoder.train(plan.state / "autoencoder.pt", steps=plan.autoencoder_steps, seed=plan.seed)


def text_stage(plan: Plan) -> None:
    """Teach the text encoder what captions say."""
    painter.train_text(plan.state / "text.pt", steps=plan.text_steps, seed=plan.seed)


def latents_stage(plan: Plan) -> None:
    """Draw and encode the painter's pictures."""
    latents.prepare(plan.state / "latents", autoencoder.new(plan.seed), plan.pictures, plan.seed)


def painter_stage(plan: Plan) -> None:
    """Train UNet and text encoder."""
    text = painter.train_text(plan.state / "text.pt", steps=plan.text_steps, seed=plan.seed)
    encoded, scenes = latents.read(plan.state / "latents")
    file = plan.state / "painter.pt"
    painter.train(file, text, encoded, scenes, steps=plan.painter_steps, seed=plan.seed, stop_at=plan.stop_at)


def checkpoint_stage(plan: Plan) -> None:
    """Write the averaged weights as a checkpoint beside the states."""
    weights = checkpoint.ldm_weights(*_averaged(plan)[:3])
    path = plan.state / checkpoint.FILE.name
    checkpoint.write(path, weights, {"modelspec.title": checkpoint.NAME, "modelspec.architecture": "stable-diffusion-v1"})
    logger.info("wrote %s, %.1f MB", path, path.stat().st_size / 1e6)


def pastel_stage(plan: Plan) -> None:
    """Fine-tune the checkpoint on pictures in pastel: a second checkpoint, to see what a trained file does on another than its own."""
    path = plan.state / checkpoint.FILE.name
    unet, vae, text = checkpoint.load(path if path.is_file() else checkpoint.FILE)
    latents.prepare(plan.state / "latents-pastel", vae, _PASTEL_PICTURES, plan.seed, style="pastel")
    encoded, scenes = latents.read(plan.state / "latents-pastel")
    file = plan.state / "pastel.pt"
    trained = painter.train(file, text, encoded, scenes, steps=plan.pastel_steps, lr=2e-4, seed=plan.seed, stop_at=plan.stop_at, unet=unet)
    weights = checkpoint.ldm_weights(trained.average["unet"], vae, trained.average["text"])
    checkpoint.write(plan.state / "nano-pastel.safetensors", weights, {"modelspec.title": "nano-pastel"})


def judge_stage(plan: Plan) -> None:
    """Train the judge."""
    judge.train(plan.state / judge.FILE.name, steps=plan.judge_steps, seed=plan.seed)


def judge_exam_stage(plan: Plan) -> None:
    """Say how often the judge is right, on held-out drawings and on those that went through the autoencoder."""
    path = plan.state / judge.FILE.name
    by = judge.load(path if path.is_file() else judge.FILE)
    pictures, scenes = judge.held_out(3 * plan.exam, _EXAM_SEED)
    through = autoencoder.rebuilt(_autoencoder(plan), pictures)
    for what, shown in (("drawings", pictures), ("drawings through the autoencoder", through)):
        shares = {name: round(value, 3) for name, value in judge.accuracy(by, shown, scenes).items()}
        logger.info("%d %s: %s, places within %.3f", len(scenes), what, shares, judge.geometry_error(by, shown, scenes))


def evaluate_stage(plan: Plan) -> None:
    """Let the judge look at what the checkpoint paints, and write a grid."""
    unet, vae, text, step = _averaged(plan)
    path = plan.state / judge.FILE.name
    by = judge.load(path if path.is_file() else judge.FILE)
    evaluate.report(unet, vae, text, plan.state / "eval" / f"painter-{step:06d}", count=plan.exam, by=by)


STAGES: dict[str, Callable[[Plan], None]] = {
    "judge": judge_stage,
    "autoencoder": autoencoder_stage,
    "text": text_stage,
    "latents": latents_stage,
    "painter": painter_stage,
    "checkpoint": checkpoint_stage,
    "evaluate": evaluate_stage,
}
LATER: dict[str, Callable[[Plan], None]] = {"judge-exam": judge_exam_stage, "pastel": pastel_stage}
"""What only runs when it is named."""

_PASTEL_PICTURES = 2000
_EXAM_SEED = 20261123


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m bench nano train", description=__doc__)
    parser.add_argument(
        "stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES | LATER)}; all but the last two in turn when none is named"
    )
    parser.add_argument("--state", type=Path, required=True, help="folder for states, latents and evaluations; may be gigabytes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--minutes", type=float, help="stop the painter after so many minutes; the same command continues")
    for name in ("seed", "judge_steps", "autoencoder_steps", "text_steps", "pictures", "painter_steps", "pastel_steps", "exam"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Plan, name))
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    torch.set_num_threads(options.pop("threads"))
    stages, minutes = options.pop("stages"), options.pop("minutes")
    if unknown := set(stages) - set(STAGES | LATER):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES | LATER)}")
    plan = Plan(**options, stop_at=time.time() + 60 * minutes if minutes else None)
    for name in stages or STAGES:
        (STAGES | LATER)[name](plan)
    return 0


def _autoencoder(plan: Plan) -> AutoencoderKL:
    """The autoencoder as far as it is trained."""
    state = stage.load_state(plan.state / "autoencoder.pt")
    if state is None:
        raise SystemExit(f"No autoencoder in {plan.state}: train it first (stage autoencoder).")
    vae = layout.new_autoencoder()
    vae.load_state_dict(state["model"])
    return vae.eval().requires_grad_(False)


def _averaged(plan: Plan) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, int]:
    text = painter.train_text(plan.state / "text.pt", steps=plan.text_steps, seed=plan.seed)
    trained = painter.Painter(text, seed=plan.seed, lr=0.0)
    state = stage.load_state(plan.state / "painter.pt")
    if state is None:
        raise SystemExit(f"No painter in {plan.state}: train it first (stage painter).")
    trained.restore(state)
    return trained.average["unet"], _autoencoder(plan), trained.average["text"], trained.step


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
