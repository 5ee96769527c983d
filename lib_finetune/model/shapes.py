"""The one difference in shape that two forms of SD1.5 have: a linear layer may be written as a 1×1 convolution."""

from __future__ import annotations

import torch

from lib_finetune.errors import CheckpointError, Problem

Shape = tuple[int, ...]


def interchangeable(shape: Shape, expected: Shape) -> bool:
    """Whether a weight of one shape holds the same numbers in the same places as one of the other.

    Element counts alone would also accept a transposed weight.
    """
    return _as_matrix(shape) == _as_matrix(expected)


def reshaped(name: str, tensor: torch.Tensor, expected: Shape, where: str) -> torch.Tensor:
    """The tensor as a view of the expected shape.

    Args:
        name: of the tensor, and ``where`` it comes from ("the loaded model", a file's name), for the message.

    Raises:
        CheckpointError: it has another shape.
    """
    if not interchangeable(tuple(tensor.shape), expected):
        actual = "×".join(map(str, tensor.shape)) or "a single number"
        needed = "×".join(map(str, expected))
        message = f"{name} in {where} is {actual}; Stable Diffusion 1.x has {needed} there. Use another file of this model."
        raise CheckpointError([Problem("checkpoint", message)])
    return tensor if tensor.shape == expected else tensor.reshape(expected)


def _as_matrix(shape: Shape) -> Shape:
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape
