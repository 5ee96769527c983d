"""Trainings that are compared."""

import pytest

from tests.fakes.form import form_values


@pytest.fixture
def values(services, images, monkeypatch):
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    return form_values(images=str(images), trigger="zxq", name="cat", data_resolution="64", preview_enabled=False)


def test_a_job_for_each_value_is_queued(tab, services, values):
    message = tab.comparison.sweep("network.rank", "2, 4", *values)
    assert "2 jobs are in the queue: cat-rank-2, cat-rank-4." in message
    assert [job.settings.network.rank for job in services.jobs.known.all()] == [2, 4]


def test_a_job_for_each_method_is_queued(tab, services, values):
    assert "3 jobs are in the queue: cat-lora, cat-dreambooth, cat-ti." in tab.comparison.compare(*values)
    assert len(services.jobs.known.all()) == 3


def test_values_of_a_rate_are_swept(tab, services, values):
    assert "cat-unet-rate-1e-4, cat-unet-rate-3e-4" in tab.comparison.sweep("Learning rate · optimizer.unet_rate", "1e-4, 3e-4", *values)
    assert [job.settings.optimizer.unet_rate for job in services.jobs.known.all()] == [1e-4, 3e-4]


def test_a_setting_that_changes_nothing_here_is_not_swept(tab, services, values):
    assert "changes nothing in a training by lora" in tab.comparison.sweep("embedding.vectors", "1, 2", *values)
    assert services.jobs.known.all() == []


def test_without_values_nothing_is_queued(tab, services, values):
    assert "No values were given" in tab.comparison.sweep("network.rank", " ,", *values) and services.jobs.known.all() == []
