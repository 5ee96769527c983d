"""What the UNet of a checkpoint file predicts: the noise (epsilon) or the velocity (v; Salimans and Ho, arXiv 2202.00512).

Weights do not tell. The WebUI reads it from the ``.yaml`` beside the file (``model.params.parameterization``, "eps" where
it is not named); newer files carry an empty tensor ``v_pred``, or ``modelspec.prediction_type`` in their metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_finetune import text_files
from lib_finetune.errors import CheckpointError, Problem
from lib_finetune.model import checkpoint_reader

PREDICTIONS = ("epsilon", "v_prediction")
_MARK = "v_pred"
_BY_WORD = {"eps": "epsilon", "epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}


def of_checkpoint(path: Path, chosen: str | None = None) -> str:
    """ "epsilon" or "v_prediction".

    Args:
        chosen: what the person says; it counts where the file does not tell.

    Raises:
        CheckpointError: the ``.yaml`` cannot be read or names another prediction, or the file says otherwise than the person.
    """
    stated = _from_config(path.with_suffix(".yaml")) or _from_file(path)
    if stated is None:
        return chosen or "epsilon"
    prediction, source = stated
    if chosen and chosen != prediction:
        message = f"{source} says that {path.name} predicts {prediction}, not {chosen}. Leave --prediction out, or correct {source}."
        raise CheckpointError([Problem("--prediction", message)])
    return prediction


def _from_config(config: Path) -> tuple[str, str] | None:
    """(prediction, source) of the configuration, which is read as the WebUI does: one that does not name it means eps."""
    if not config.is_file():
        return None
    import yaml

    try:
        content = yaml.safe_load(text_files.read(config))
    except (OSError, text_files.NotTextError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise _refused(f"{config.name} beside the checkpoint cannot be read ({reason}). Mend it, or move it away.") from error
    word = _at(content, "model", "params", "parameterization")
    if word is None:
        return "epsilon", config.name
    if str(word) not in _BY_WORD:
        raise _refused(f"{config.name} says parameterization {word!r}; Stable Diffusion 1.x has eps or v. Mend it, or move it away.")
    return _BY_WORD[str(word)], config.name


def _from_file(path: Path) -> tuple[str, str] | None:
    if _MARK in checkpoint_reader.names(path):
        return "v_prediction", f"the key {_MARK}"
    word = checkpoint_reader.metadata(path).get("modelspec.prediction_type", "")
    return (_BY_WORD[word], "modelspec.prediction_type") if word in _BY_WORD else None


def _at(tree: Any, *path: str) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _refused(message: str) -> CheckpointError:
    return CheckpointError([Problem("checkpoint", message)])
