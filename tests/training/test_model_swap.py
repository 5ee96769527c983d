"""Two models and one device: what is trained leaves it between turns, and comes back the same."""

import pytest
import torch

from lib_finetune.errors import OutOfMemoryError
from lib_finetune.model.parking import Parking
from lib_finetune.training.model_swap import ModelSwap


def adam():
    """A parameter with a gradient and AdamW's state."""
    weight = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = torch.optim.AdamW([weight])
    (weight * 2).sum().backward()
    optimizer.step()
    return weight, optimizer


def test_tensors_stay_the_objects_that_they_are_with_the_same_bits_elsewhere():
    weight, optimizer = adam()
    moment = optimizer.state[weight]["exp_avg"]
    held = [weight, weight.grad, moment]
    before, places = [tensor.clone() for tensor in held], [tensor.data_ptr() for tensor in held]
    parking = Parking()
    parking.send(held)
    assert all(tensor.data_ptr() != place for tensor, place in zip(held, places))
    parking.bring()
    assert all(torch.equal(tensor, was) for tensor, was in zip(held, before))
    assert optimizer.state[weight]["exp_avg"] is moment and optimizer.param_groups[0]["params"][0] is weight


def test_a_step_after_the_exchange_is_the_step_without_it():
    results = []
    for moves in (False, True):
        torch.manual_seed(1)
        weight, optimizer = adam()
        seen = []
        weight.register_post_accumulate_grad_hook(lambda parameter, seen=seen: seen.append(parameter.grad.clone()))
        if moves:
            swap = ModelSwap(lambda w=weight, o=optimizer: [w, w.grad, *o.state[w].values()])
            swap.leave()
            swap.come()
        (weight**2).sum().backward()
        optimizer.step()
        assert len(seen) == 1  # hooks have come along
        results.append(weight.detach().clone())
    assert torch.equal(*results)


def test_a_tensor_that_several_hold_moves_once():
    shared = torch.ones(3)
    swap = ModelSwap(lambda: [shared, shared])
    swap.leave()
    assert len(swap._parking._away) == 1


def test_a_full_main_memory_drops_what_is_trained(monkeypatch):
    """The host's model must find its place again, whatever becomes of ours."""
    first, second = torch.ones(3), torch.ones(3)

    def send(self, tensors):
        self._away.append((next(iter(tensors)), torch.device("cpu")))
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Parking, "send", send)
    swap = ModelSwap(lambda: [first, second])
    with pytest.raises(OutOfMemoryError, match="Main memory has no room") as caught:
        swap.leave()
    assert first.numel() == second.numel() == 0 and caught.value.__context__ is None


def test_what_could_not_come_comes_when_asked_again(monkeypatch):
    tensors = [torch.full((2,), float(n)) for n in range(3)]
    parking = Parking()
    parking.send(tensors)
    real, calls = torch.Tensor.to, []

    def to(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        parking.bring()
    assert len(parking._away) == 2
    parking.bring()
    assert parking._away == [] and [float(tensor[0]) for tensor in tensors] == [0.0, 1.0, 2.0]


def test_an_error_lets_go_of_tensors_before_the_hosts_model_comes_back(tmp_path):
    """An exception keeps the frames that it passed; what they hold may be all the room there was."""
    import weakref

    from lib_finetune.model.borrowed import BorrowedModel
    from lib_finetune.model.random_weights import small_layout
    from lib_finetune.training.turns import Turns
    from tests.fakes.host import FakeHost

    watched = []

    class Looking(ModelSwap):
        def leave(self):
            self.alive = [ref() is not None for ref in watched]
            super().leave()

    def step():
        activations = torch.zeros(8).numpy()  # weak references to torch's own storages crash torch 2.1
        watched.append(weakref.ref(activations))
        raise RuntimeError("CUDA out of memory")

    host, swap = FakeHost(tmp_path), Looking(lambda: [torch.ones(1)])
    turns = Turns(host, host.checkpoint(), BorrowedModel(small_layout()), lambda _: None)
    turns.use((), swap)
    with pytest.raises(RuntimeError, match="out of memory"), turns.step():
        step()
    assert swap.alive == [False] and not host.lock.locked()


def test_a_fault_that_is_found_in_a_long_turn_ends_it(tmp_path):
    from lib_finetune.errors import DivergedError
    from lib_finetune.model.borrowed import BorrowedModel
    from lib_finetune.model.random_weights import small_layout
    from lib_finetune.training.turns import Turns
    from tests.fakes.host import FakeHost

    def fetch():
        raise DivergedError(3, 1e-3)

    host = FakeHost(tmp_path)
    turns = Turns(host, host.checkpoint(), BorrowedModel(small_layout()), lambda _: None, turn_s=0.0)
    turns.before_close(fetch)
    turns.use((), ModelSwap(lambda: [torch.ones(1)]))
    with pytest.raises(DivergedError), turns.step():
        pass
    assert not host.lock.locked()
