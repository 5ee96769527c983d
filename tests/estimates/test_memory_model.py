"""The memory of a form of training, in bytes."""

import dataclasses

import pytest

from lib_finetune.estimates import memory_model
from lib_finetune.estimates.memory_model import Form, Room, Work

WORK = Work(weights=1_000, pixels=0, sixteen_bit=True)
FORM = Form("fp32", "adamw", in_backward=False, checkpointing=True)


@pytest.mark.parametrize(("weights", "each"), [("fp32", 4), ("bf16", 2)])
def test_an_average_is_held_as_the_weights_are(weights, each):
    form = dataclasses.replace(FORM, weights=weights)
    averaged = dataclasses.replace(WORK, average=True)
    assert form.rest(averaged) - form.rest(WORK) == 1_000 * each


def test_adamw_holds_two_numbers_of_32_bit_beside_each_weight():
    assert FORM.rest(WORK) == 1_000 * (4 + 8)


@pytest.mark.parametrize(("weights", "each"), [("fp32", 4), ("bf16", 2)])
def test_main_memory_holds_both_models_and_with_validation_the_best_state_and_the_present_one(weights, each):
    form, room = dataclasses.replace(FORM, weights=weights, swapped=True), Room(free=10**6, away=500)
    validated = dataclasses.replace(WORK, validated=True)
    assert room.parked(form, WORK) == form.rest(WORK) + 500
    assert room.parked(form, validated) - room.parked(form, WORK) == 2 * each * 1_000
    assert room.needed(form, validated) == room.needed(form, WORK)  # nothing of it on the device


def test_a_narrow_unet_passes_less_and_sd15_is_the_measure():
    assert memory_model.width(859_520_964) == 1.0 == memory_model.width(2 * 859_520_964)
    assert memory_model.width(859_520_964 // 100) == pytest.approx(0.1, rel=1e-3)
