"""The good state that a loss log keeps, and the step that it is of."""

import pytest
import torch
from torch import nn

from lib_finetune.errors import DivergedError
from lib_finetune.training.loss_log import LossLog


def log(keeps, reports=None):
    parameter = nn.Parameter(torch.zeros(2))
    report = (reports if reports is not None else []).append
    return LossLog({"p": parameter}, 100, True, report, keeps=keeps), parameter


def note(loss_log, *losses):
    for loss in losses:
        loss_log.note(torch.tensor(loss), torch.tensor(1.0), {"unet": 1e-4})


@pytest.mark.parametrize(("keeps", "step"), [(True, 7), (False, 0)])
def test_the_good_step_is_that_of_a_copy_and_0_without_one(keeps, step):
    loss_log, _ = log(keeps)
    loss_log.begin(7)
    assert loss_log.good_step == step and loss_log.present is True


@pytest.mark.parametrize("keeps", [True, False])
def test_after_a_loss_that_is_no_number_the_last_good_state_is_there_again_where_one_is_kept(keeps):
    loss_log, parameter = log(keeps)
    loss_log.begin(0)
    parameter.data.fill_(1.0)
    note(loss_log, 0.5)
    loss_log.fetch()
    parameter.data.fill_(2.0)
    note(loss_log, 0.5, float("nan"))
    with pytest.raises(DivergedError):
        loss_log.fetch()
    assert (parameter.data == (1.0 if keeps else 2.0)).all() and loss_log.good_step == (1 if keeps else 0)


def test_a_single_loss_is_fetched_and_so_is_one_for_the_step_that_will_not_be():
    reports = []
    loss_log, _ = log(True, reports)
    loss_log.begin(0)
    note(loss_log, 0.25)
    loss_log.fetch()
    assert [report.losses for report in reports] == [(0.25,)]
    loss_log.look_ahead(torch.tensor(0.25))
    loss_log.fetch()
    assert loss_log.present is True and len(reports) == 1
