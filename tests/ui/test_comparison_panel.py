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


def test_without_values_nothing_is_queued(tab, services, values):
    assert "No values were given" in tab.comparison.sweep("network.rank", " ,", *values) and services.jobs.known.all() == []
