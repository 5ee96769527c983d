"""What is done after which step."""

from lib_finetune.runs.schedule import Schedule


def test_what_is_due_is_done_in_order_and_everything_is_asked_once():
    asked, done = [], []

    def entry(name, every):
        return (lambda step: asked.append(name) is None and step % every == 0), (lambda step: done.append((name, step)))

    agenda = Schedule([entry("a", 2), entry("b", 1), entry("c", 4)])
    for step in (1, 2, 4):
        assert agenda.due(step)
        agenda.act(step)
    assert done == [("b", 1), ("a", 2), ("b", 2), ("a", 4), ("b", 4), ("c", 4)] and asked == ["a", "b", "c"] * 3
    assert not Schedule([]).due(1)
