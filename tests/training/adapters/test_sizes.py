import pytest
import torch

from lib_finetune.assembly import builder
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from lib_finetune.training.adapters import ADAPTERS, AdapterOptions
from lib_finetune.training.adapters.sizes import SHAPES, file_shapes
from tests.fakes.host import tiny_tensors


def test_every_adapter_has_its_sizes():
    assert set(SHAPES) == set(ADAPTERS)


@pytest.mark.parametrize("changes", [{}, {"network.conv_rank": "3"}, {"network.targets": "attention", "network.text_encoder": "false"}])
@pytest.mark.parametrize(("adapter", "rank", "factor"), [("lora", 5, 8), ("loha", 5, 8), ("lokr", 2, 8), ("lokr", 2, 3), ("lokr", 60, 8)])
def test_the_shapes_are_those_of_the_file(adapter, rank, factor, changes):
    pairs = {"network.adapter": adapter, "network.rank": str(rank), "network.factor": str(factor), **changes}
    settings = codec.with_values(Settings(), pairs.items())
    view, model = BorrowedModel(small_layout()), BorrowedModel(small_layout())
    before = torch.get_rng_state()
    targets = builder.patch_targets(settings.network, view)
    found = file_shapes(adapter, {"unet": view.unet, "text": view.text}, targets, AdapterOptions(0.0, factor))
    assert torch.equal(before, torch.get_rng_state())
    model.bind(tiny_tensors())
    assert found == {name: tuple(value.shape) for name, value in builder.adapter_of(settings, model).state().items()}
