"""The host without a WebUI: a checkpoint file, held by this process; used on the command line and in tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lib_finetune.errors import CheckpointChangedError, HostError, InputError, Problem
from lib_finetune.export import bundled_word, embedding_file, lora_file
from lib_finetune.export import card as cards
from lib_finetune.host import memory
from lib_finetune.model import checkpoint_reader, families, layout, prediction
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.digest import digest
from lib_finetune.model.lora_merge import by_module, merged
from lib_finetune.model.names import kohya_module
from lib_finetune.model.noise_schedule import scaled_linear
from lib_finetune.model.parking import Parking
from lib_finetune.model.sampling import sample
from lib_finetune.model.shapes import interchangeable
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.files import Card, Paths, Verification
from lib_finetune.ports.host import MemoryUse, Restoration
from lib_finetune.ports.lease import Lease, TextTools
from lib_finetune.ports.pictures import PictureRequest
from lib_finetune.text import tokenizer
from lib_finetune.text.learned import LearnedVectors
from lib_finetune.text.prompts import TextEncoder

SCALE_FACTOR = 0.18215


class HeadlessHost:
    """Implements `ports.Host` on tensors of its own."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], info: CheckpointInfo, root: Path, text_heads: int | None = None) -> None:
        """
        Args:
            tensors: LDM names, all on one device and of one dtype.
            root: models go to ``root/models/…``, the rest to ``root/.finetune``.
            text_heads: of the text encoder; None takes 64 channels a head.

        Raises:
            CheckpointError: not a Stable Diffusion 1.x checkpoint.
        """
        self._tensors = dict(tensors)
        self._info = info
        self._layout = layout.infer(self._tensors, text_heads)
        self._device = next(iter(self._tensors.values())).device
        self._alphas = scaled_linear().to(self._device)
        models = root / "models"
        self._paths = Paths(models / "Lora", models / "Stable-diffusion", root / "embeddings", root / ".finetune")
        self._before: dict[str, int] = {}
        self._known_modules: set[str] = set()
        self._tokenizer: Any = None
        self._tools_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        root: Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        predicts: str | None = None,
    ) -> HeadlessHost:
        """Read a checkpoint file; fp16 on CUDA, fp32 on the CPU unless ``dtype`` says otherwise.

        Args:
            predicts: "epsilon" or "v_prediction", where neither the file nor the ``.yaml`` beside it tells.

        Raises:
            CheckpointError: the file is missing, broken, or of another family.
        """
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        target_dtype = dtype or (torch.float16 if place.type == "cuda" else torch.float32)
        tensors = checkpoint_reader.read(checkpoint, target_dtype, place)
        heads = checkpoint_reader.metadata(checkpoint).get("text_encoder_heads")
        digits = checkpoint_reader.sha256(checkpoint)
        info = CheckpointInfo(
            checkpoint.stem, checkpoint.resolve(), digits, digits[:10], None, prediction.of_checkpoint(checkpoint, predicts)
        )
        host = cls(tensors, info, root, int(heads) if heads else None)
        host._refuse_strangers(checkpoint, tensors)
        return host

    def _refuse_strangers(self, path: Path, tensors: Iterable[str]) -> None:
        """
        Args:
            tensors: names in a checkpoint, as `checkpoint_reader.read` gives them.

        Raises:
            CheckpointError: some have no place in this model, so that nobody would use them.
        """
        places = {slot.source for slot in BorrowedModel(self._layout).slots}
        checkpoint_reader.refuse_strangers(path, (name for name in tensors if name not in places))

    @property
    def paths(self) -> Paths:
        """See `Host.paths`."""
        return self._paths

    @property
    def device(self) -> torch.device:
        """See `Host.device`."""
        return self._device

    def refusals(self) -> list[str]:
        """Nothing stands in the way of a model that is ours."""
        return []

    def checkpoint(self) -> CheckpointInfo:
        """See `Host.checkpoint`."""
        return self._info

    def text_tools(self) -> TextTools:
        """See `Host.text_tools`. Any thread: two that import transformers at the same time get in each other's way."""
        with self._tools_lock:
            if self._tokenizer is None:
                self._tokenizer = tokenizer.load(self._paths.data / "tokenizer")
        return TextTools(self._tokenizer, self._layout.text["num_attention_heads"], clip_skip=1)

    @contextmanager
    def lease(
        self, checkpoint: CheckpointInfo | None = None, parts: Iterable[str] = ("unet", "text", "vae"), *, alone: bool = False
    ) -> Iterator[Lease]:
        """See `Host.lease`; everything lies on the device already."""
        if checkpoint is not None and checkpoint.identity != self._info.identity:
            raise CheckpointChangedError(str(checkpoint), str(self._info))
        parking, start, needed = Parking(), time.monotonic(), tuple(layout.PREFIXES[part] for part in parts)
        try:
            if alone:
                parking.send(tensor for name, tensor in self._tensors.items() if not name.startswith(needed))
            tensors = {name: tensor.detach() for name, tensor in self._tensors.items()}
            yield Lease(tensors, self._alphas, SCALE_FACTOR, self._device, time.monotonic() - start)
        finally:
            parking.bring()

    def waiting(self) -> bool:
        """Nobody but us uses the model."""
        return False

    def between_turns(self) -> None:
        """Nobody waits."""

    def load(self, checkpoint: CheckpointInfo) -> None:
        """
        Raises:
            HostError: a headless run holds the one checkpoint it was started with.
        """
        if checkpoint.identity != self._info.identity:
            raise HostError(f"This run holds {self._info}; start it again with --checkpoint {checkpoint.path or checkpoint.name}.")

    def remember(self) -> Sequence[str]:
        """See `Host.remember`."""
        memory.reset_peak(self._device)
        self._before = digest(self._tensors)
        return ()

    def restoration(self) -> Restoration:
        """See `Host.restoration`."""
        start = time.monotonic()
        after = digest(self._tensors)
        changed = [f"the weight {name} changed" for name, value in self._before.items() if after[name] != value]
        return Restoration(tuple(changed), len(after), time.monotonic() - start)

    def artifact_saved(self, kind: str, path: Path, card: Card) -> Verification:
        """Compare the file with the model, and write the card."""
        if kind == "checkpoint":
            cards.write_card(path, card)
            return self._checkpoint_saved(path)
        if kind == "embedding":
            cards.write_card(path, card)
            width_of_file, width_of_model = embedding_file.read(path).shape[1], self._layout.text["hidden_size"]
            fits = width_of_file == width_of_model
            return Verification(int(fits), 1, f"The vectors of {path.name} are {width_of_file} wide, the model's {width_of_model}.")
        from safetensors.torch import load_file

        patches, words = bundled_word.parted(load_file(str(path)))
        known, width = self._kohya_shapes(), self._layout.text["hidden_size"]
        modules = by_module(patches)
        matched = sum(name in known for name in modules)
        fitting = sorted(word for word, vectors in words.items() if vectors.shape[1] == width)
        cards.write_card(path, card)
        message = f"{matched} of {len(modules)} modules of {path.name} belong to the model"
        brings = f"; it brings {len(fitting)} of {len(words)} words: {', '.join(fitting)}." if words else "."
        return Verification(matched + len(fitting), len(modules) + len(words), message + brings)

    def artifact_removed(self, kind: str, path: Path) -> None:
        """Files are read when they are asked for: nothing is remembered."""

    def _checkpoint_saved(self, path: Path) -> Verification:
        tensors = checkpoint_reader.read(path, torch.float32, torch.device("cpu"))
        shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items() if not name.endswith("position_ids")}
        matched = sum(name in tensors and interchangeable(tuple(tensors[name].shape), shape) for name, shape in shapes.items())
        return Verification(matched, len(shapes), f"{matched} of {len(shapes)} weights of the model are in {path.name}.")

    def card_picture(self, kind: str, path: Path, image: Image.Image) -> None:
        """See `Host.card_picture`."""
        cards.write_picture(path, kind, image)

    def picture(self, request: PictureRequest) -> Image.Image:
        """See `pictures`."""
        return self.pictures(request, 1)[0]

    def pictures(self, request: PictureRequest, count: int) -> list[Image.Image]:
        """Pictures by our own sampler, with LoRA files added to a copy of the weights they touch and embeddings put into the prompt.

        Raises:
            InputError: a file is missing, broken, or for another family.
        """
        model = BorrowedModel(self._layout)
        tensors = dict(self._tensors)
        if request.checkpoint:
            tensors |= self._standing_in(request.checkpoint)
        vectors: dict[str, torch.Tensor] = {}
        for path, weight in request.loras:
            patches, words = bundled_word.parted(lora_file.read(path, "lora"))
            tensors = merged(tensors, model, patches, weight)
            vectors |= words
        vectors |= {path.stem: embedding_file.read(path) for path in request.embeddings}  # these win, as in the WebUI
        with model.bound(tensors):
            tools = self.text_tools()
            text = TextEncoder(model.text, tools.tokenizer, tools.clip_skip, learned=self._learned(model, tools, vectors))
            return sample(
                model,
                text,
                request.prompt,
                negative_prompt=request.negative_prompt,
                size=(request.width_px, request.height_px),
                steps=request.steps,
                guidance=request.guidance,
                seeds=range(request.seed, request.seed + count),
                prediction=self._info.prediction,
                scale_factor=SCALE_FACTOR,
            )

    def _standing_in(self, path: Path) -> dict[str, torch.Tensor]:
        dtype = next(iter(self._tensors.values())).dtype
        tensors = checkpoint_reader.read(path, dtype, self._device)
        self._refuse_strangers(path, tensors)
        return tensors

    def _learned(self, model: BorrowedModel, tools: TextTools, vectors: Mapping[str, torch.Tensor]) -> LearnedVectors | None:
        width = self._layout.text["hidden_size"]
        wrong = [
            f"{name} is {value.shape[1]} wide{families.of_width(value.shape[1])}, the model {width}: it is for another family."
            for name, value in vectors.items()
            if value.shape[1] != width
        ]
        if wrong:
            raise InputError([Problem("embedding", line) for line in wrong])
        if not vectors:
            return None
        return LearnedVectors(model.text, tools.tokenizer, {name: value.to(self._device) for name, value in vectors.items()})

    def captioners(self) -> tuple[str, ...]:
        """See `Host.captioners`: none."""
        return ()

    def describe(self, captioner: str, image: Image.Image) -> str:
        """See `Host.describe`.

        Raises:
            HostError: always.
        """
        raise HostError(f"There is no {captioner} here: the WebUI has interrogators.")

    def face(self, image: Image.Image) -> tuple[float, float] | None:
        """See `Host.face`.

        Raises:
            InputError: always.
        """
        raise InputError([Problem("data.crop", "Faces are found inside the WebUI only. Choose focal.")])

    def memory(self) -> MemoryUse:
        """See `Host.memory`."""
        return memory.use(self._device)

    def _kohya_shapes(self) -> set[str]:
        if not self._known_modules:
            model = BorrowedModel(self._layout)
            roots = {"unet": model.unet, "text": model.text}
            self._known_modules = {kohya_module(part, name) for part, root in roots.items() for name, _ in root.named_modules()}
        return self._known_modules
