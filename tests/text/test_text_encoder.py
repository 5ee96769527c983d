"""The text encoder's own loop over transformers' layers: its bits, without a new mask for each caption."""

import pytest
import torch

from bench.operations import _Counter
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from lib_finetune.text.prompts import TextEncoder
from tests.fakes.host import FakeHost, tiny_tensors

CAPTIONS = ["a photo of a cat, on a mat", ", ".join(f"{number} dogs" for number in range(40)), ""]


@pytest.fixture
def model():
    made = BorrowedModel(small_layout())
    made.bind(tiny_tensors())
    return made


def encoder(model, tmp_path, clip_skip=1):
    return TextEncoder(model.text, FakeHost(tmp_path).text_tools().tokenizer, clip_skip)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_it_gives_the_bits_of_transformers(model, tmp_path, clip_skip, dtype):
    model.bind({name: tensor.to(dtype) for name, tensor in tiny_tensors().items()})
    text = encoder(model, tmp_path, clip_skip)
    ours = text.encode(CAPTIONS)
    rows = [text._rows(caption) for caption in CAPTIONS]
    longest = max(map(len, rows))
    empty = text._rows("")[0]
    ids = torch.tensor([row for own in rows for row in [*own, *[empty] * (longest - len(own))]])
    hidden = model.text(input_ids=ids, output_hidden_states=True).hidden_states[-clip_skip]
    theirs = model.text.final_layer_norm(hidden)
    assert torch.equal(ours, theirs.view(len(CAPTIONS), -1, theirs.shape[-1]))


def test_a_second_caption_makes_no_new_mask_and_reads_nothing(model, tmp_path):
    text = encoder(model, tmp_path)
    text.encode(CAPTIONS[:1])
    with _Counter() as counter:
        text.encode(["a dog"])
    assert counter.counted.reads == 0 and not {"full", "triu", "arange", "masked_fill_", "argmax"} & counter.counted.names.keys()


def test_layers_that_clip_skip_leaves_out_are_not_computed(model, tmp_path):
    text = encoder(model, tmp_path, clip_skip=2)
    model.text.encoder.layers[-1].forward = None
    assert torch.isfinite(text.encode(["a dog"])).all()
