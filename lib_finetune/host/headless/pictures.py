"""Images without a WebUI, by our own sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lib_finetune.errors import InputError, PictureInterruptedError, Problem
from lib_finetune.export import bundled_word, embedding_file, lora_file
from lib_finetune.host.headless.model import SCALE_FACTOR
from lib_finetune.model import checkpoint_reader, families
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.lora_merge import merged
from lib_finetune.model.sampling import sample
from lib_finetune.text.learned import LearnedVectors
from lib_finetune.text.prompts import TextEncoder

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lib_finetune.host.headless.model import HeldCheckpoint
    from lib_finetune.ports.lease import TextTools
    from lib_finetune.ports.pictures import PictureRequest


class HeadlessPictures:
    """Implements `ports.pictures.HostPictures`."""

    def __init__(self, held: HeldCheckpoint, text_tools: Callable[[], TextTools]) -> None:
        self._held = held
        self._text_tools = text_tools

    def make(self, request: PictureRequest) -> Image.Image:
        """See `make_batch`."""
        return self.make_batch(request, 1)[0]

    def make_batch(self, request: PictureRequest, count: int) -> list[Image.Image]:
        """See `HostPictures.make_batch`. LoRA files are added to copies of the weights that they change, embeddings to the prompt.

        Raises:
            InputError: a file is missing, broken, or for another family.
            PictureInterruptedError: the request asked for that.
        """
        model = BorrowedModel(self._held.layout)
        tensors = dict(self._held.tensors)
        if request.checkpoint:
            dtype = next(iter(tensors.values())).dtype
            others = checkpoint_reader.read(request.checkpoint, dtype, self._held.device)
            self._held.refuse_strangers(request.checkpoint, others)
            tensors |= others
        vectors: dict[str, torch.Tensor] = {}
        for path, weight in request.loras:
            patches, words = bundled_word.parted(lora_file.read(path, "lora"))
            tensors = merged(tensors, model, patches, weight)
            vectors |= words
        vectors |= {path.stem: embedding_file.read(path) for path in request.embeddings}  # these win, as in the WebUI
        with model.bound(tensors):
            tools = self._text_tools()
            clip_skip = request.clip_skip or tools.clip_skip
            text = TextEncoder(model.text, tools.tokenizer, clip_skip, learned=self._learned(model, tools, vectors))
            return sample(
                model,
                text,
                request.prompt,
                negative_prompt=request.negative_prompt,
                size=(request.width_px, request.height_px),
                steps=request.steps,
                guidance=request.guidance,
                seeds=range(request.seed, request.seed + count),
                prediction=self._held.info.prediction,
                scale_factor=SCALE_FACTOR,
                before_step=lambda done: _look_at(request, done),
            )

    def _learned(self, model: BorrowedModel, tools: TextTools, vectors: Mapping[str, torch.Tensor]) -> LearnedVectors | None:
        width = self._held.text_width
        wrong = [
            f"{name} is {value.shape[1]} wide{families.of_width(value.shape[1])}, the model {width}: it is for another family."
            for name, value in vectors.items()
            if value.shape[1] != width
        ]
        if wrong:
            raise InputError([Problem("embedding", line) for line in wrong])
        if not vectors:
            return None
        return LearnedVectors(model.text, tools.tokenizer, {name: value.to(self._held.device) for name, value in vectors.items()})


def _look_at(request: PictureRequest, done: int) -> None:
    """
    Raises:
        PictureInterruptedError: the request asks for that.
    """
    request.on_step(done, request.steps)
    if request.interrupt_asked():
        raise PictureInterruptedError(f"The image was left unfinished after {done} of {request.steps} sampling steps.")
