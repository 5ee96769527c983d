"""Train and Forecast."""

from tests.fakes.form import form_values


def test_wrong_input_becomes_a_message_and_nothing_starts(tab, services):
    answer = tab.start.train({}, *form_values(images="/nowhere", name="a/b"))
    assert "nowhere" in answer and "path parts" in answer and not services.jobs.known.all()


def test_text_in_a_number_field_is_named(tab, services):
    answer = tab.start.train({}, *form_values(images="/nowhere", name="a/b", training_steps="many"))
    assert all(text in answer for text in ("Steps: ", "many", "nowhere", "path parts")) and not services.jobs.known.all()


def test_train_says_what_becomes_of_the_job(tab, services, images, monkeypatch):
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    values = {"images": str(images), "trigger": "zxq", "data_resolution": "64", "preview_enabled": False}
    services.jobs.hold()
    assert "one waits: the queue is held" in tab.start.train({}, *form_values(name="one", **values))
    services.jobs.held = False
    assert "two waits in the queue; 1 before it" in tab.start.train({}, *form_values(name="two", **values))
    services.jobs.hold()
    for job in services.jobs.known.waiting():
        services.jobs.cancel(job.folder.name)


def test_a_forecast_is_asked_for_in_words(tab, services, images, monkeypatch):
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    assert "Two steps are tried out" in tab.start.forecast(*form_values(images=str(images), trigger="zxq", name="cat"))
    assert [task.kind for task in services.jobs.tasks.all()] == ["forecast"]
    assert "Steps: " in tab.start.forecast(*form_values(training_steps="many")) and len(services.jobs.tasks.all()) == 1
