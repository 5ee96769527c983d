"""The panels that are HTML: what they show, and that nothing a person typed becomes a part of the page."""

import pytest

from lib_finetune.ui import cards, gallery, grids, html, library, outcome, queue, status

EVIL = '"><script>alert(1)</script>'
ENTRY = {
    "token": "t", "kind": "lora", "name": EVIL, "file": EVIL, "folder": EVIL, "bytes": 37_000_000, "changed": 1.0, "base": EVIL, "call": EVIL, "picture": 5,
    "job": EVIL,
}  # fmt: skip
STATUS = {
    "id": "i", "name": "cat", "method": "lora", "state": "running", "stage": "train", "done": 430, "total": 1200, "message": "", "file": None, "call": "",
    "steps_per_s": 2.0, "seconds_left": 385.0, "rates": {}, "stopping": False, "watch": {},
}  # fmt: skip
JOB = {
    "id": EVIL, "name": EVIL, "method": "lora", "state": "done", "message": EVIL, "created": 1.0, "started": 1.0, "ended": 61.0, "steps": 40, "group": EVIL,
    "can_go_on": True,
    "call": EVIL, "files": {"lora": "/x/a.safetensors"}, "choices": {"20": {"lora": "/x/a-000020.safetensors"}, "40": {"lora": "/x/a.safetensors"}},
}  # fmt: skip
OVERVIEW = {"jobs": [JOB, {**JOB, "id": "next", "state": "queued"}], "queue": ["next"], "held": True, "errands": []}
PICTURE = {
    "name": EVIL, "token": "t", "width_px": 800, "height_px": 600, "bucket": (576, 448), "repeats": 10, "held_out": True, "crop_varies": True,
    "caption": EVIL, "mask": None,
    "caption_text": EVIL, "caption_varies": False, "caption_file": f"/x/{EVIL}.txt", "tokens": 80, "over_chunk": True, "flags": [{"message": EVIL}],
}  # fmt: skip
VIEW = {
    "pictures": [PICTURE], "broken": [(f"/x/{EVIL}", EVIL)], "unread_captions": [], "orphans": ["/x/lone.txt"], "doubles": [], "other_kinds": [],
    "never": [], "problems": [("data.held_out", "too many")], "buckets": [{"pictures": 1, "width_px": 576, "height_px": 448}], "sentence": EVIL,
}  # fmt: skip
GRID = {
    "chosen": [EVIL], "weights": [0.6], "seeds": [1], "prompts": [EVIL], "base": True, "columns": [[EVIL, [EVIL]]], "rows": [[EVIL, 1]],
}  # fmt: skip
CARD = {
    "method": "lora", "likeness": EVIL, "file_bytes": 37_000_000, "seconds": 480.0, "seconds_from": "guessed", "memory_bytes": 3 << 30, "fits": False,
    "message": EVIL, "why": dict.fromkeys(("likeness", "time", "file", "memory", "risk"), EVIL),
}  # fmt: skip


@pytest.mark.parametrize(
    "shown",
    [
        queue.queue(OVERVIEW, "key"),
        queue.history(OVERVIEW, "key", EVIL),
        queue.storage([{"name": EVIL, "holds": EVIL, "size": 5}]),
        library.files([ENTRY], "key"),
        library.class_images([{"folder": EVIL, "prompt": EVIL, "files": [EVIL], "bytes": 5}], "key"),
        status.bar({**STATUS, "name": EVIL}, None, 1, 0),
        status.render({**STATUS, "name": EVIL, "message": EVIL}, None),
        status.problems([EVIL], ["finetune_name"]),
        grids.made([(EVIL, GRID)], [{"id": EVIL, "kind": "sheet", "state": "failed", "message": EVIL, "done": 0, "total": 0}], "key"),
        grids.offered([{"job": EVIL, "name": EVIL, "method": "lora", "steps": [20, 40], "result": 40}], [("weights", EVIL)], "key"),
        outcome.render(JOB, EVIL),
        gallery.render(VIEW, "key"),
        cards.render({"cards": [CARD], "recommended": "lora", "reason": EVIL, "question": EVIL}, "lora"),
        cards.forecast({"id": "e", "state": "failed", "message": EVIL, "result": {}}),
        status.film(EVIL, [{"step": 0, "files": [f"previews/000000/{EVIL}"], "prompts": [EVIL]}], "key"),
    ],
)
def test_what_was_typed_stays_text(shown):
    assert "<script>" not in shown and "script" in shown


def test_a_tile_tells_crop_size_caption_tokens_and_faults():
    shown = gallery.render(VIEW, "key")
    assert all(
        text in shown
        for text in ("800×600 → 576×448", "×10", "held out", "another part each time", "80 tokens", "a caption without an image")
    )
    assert "thumbnails/t?key=key" in shown and "1 broken" in gallery.summary(VIEW)


def test_a_card_that_does_not_fit_says_so():
    shown = cards.render(
        {"cards": [{**CARD, "message": "set data.resolution to 448"}], "recommended": "", "reason": "", "question": ""}, "lora"
    )
    assert all(
        text in shown
        for text in (
            "8 min (estimate)",
            "37.0 MB",
            "3.0 GB memory ✗",
            "Memory is an estimate.",
            "set data.resolution to 448",
            "finetune-chosen",
        )
    )


def test_only_a_time_that_was_measured_is_told_as_a_fact():
    def shown(**changes):
        return cards.render({"cards": [{**CARD, **changes}], "recommended": "", "reason": "", "question": ""}, "lora")

    assert "8 min (estimate)" in shown(seconds_from="scaled") and ">8 min<" in shown(seconds_from="measured")
    assert "time unknown" in shown(seconds=None, seconds_from="")


def test_each_method_says_why():
    why = {"likeness": "close", "time": "short", "file": "small", "memory": "little", "risk": "some"}
    shown = cards.render({"cards": [{**CARD, "why": why}], "recommended": "lora", "reason": "r", "question": "q"}, "lora")
    assert all(f"<dt>{name}</dt><dd>{text}</dd>" in shown for name, text in why.items()) and shown.count("<details") == 1
    assert "LoRA ★" in shown and "★ r" in shown and ">q<" in shown and "<details" not in cards.bare("lora")


def test_the_queue_says_why_it_waits_and_how_to_start_it():
    shown = queue.queue(OVERVIEW, "key")
    assert "Start the queue" in shown and "waited when the WebUI was ended" in shown
    assert "Hold the queue" in queue.queue({**OVERVIEW, "held": False}, "key")


def test_runs_that_wait_move_within_their_order():
    jobs = [{**JOB, "id": name, "state": "queued"} for name in ("first", "second", "third")]
    cards_of = queue.queue({**OVERVIEW, "jobs": jobs, "queue": ["first", "second", "third"]}, "key").split("<article")[1:]
    assert [("↑" in card, "↓" in card) for card in cards_of] == [(False, True), (True, True), (True, False)]


def test_a_run_is_a_card_with_its_picture_and_one_primary_action():
    shown = queue.history({**OVERVIEW, "jobs": [{**JOB, "id": "one", "name": "cat"}]}, "key", "one")
    assert "jobs/one/cover?key=key" in shown and "finetune-chosen" in shown and "40 steps, 60 s" in shown
    assert shown.count("primary") == 1 and ">Resume<" in shown and ">Remove<" in shown
    done = queue.history({**OVERVIEW, "jobs": [{**JOB, "id": "one", "can_go_on": False, "call": "<lora:cat:0.8>"}]}, "key")
    assert 'data-call="&lt;lora:cat:0.8&gt;"' in done and "Resume" not in done


def test_a_damaged_run_says_why_and_can_only_be_removed():
    shown = queue.history(
        {**OVERVIEW, "jobs": [{**JOB, "state": "damaged", "message": "No settings.", "can_go_on": False, "files": {}}]}, "key"
    )
    assert "No settings." in shown and "Remove" in shown and "Train again" not in shown


def test_the_bar_tells_name_step_and_time_left_and_opens_the_run():
    shown = status.bar(STATUS, None, 1, 2)
    assert all(text in shown for text in ('<b translate="no">cat</b>', "430/1200", "6 min left", "width:35.8%", ">Open<"))
    assert 'data-running="1" data-waiting="2"' in shown
    idle = status.bar(None, {**STATUS, "state": "done"}, 0, 0)
    assert "Open" not in idle and 'data-state="done"' in idle
    assert "The GPU is gone." in status.bar(None, None, 0, 0, "The GPU is gone.")


def test_the_headline_says_how_a_result_is_used_and_nothing_technical():
    ended = {
        **STATUS,
        "state": "done",
        "file": "/x/cat.safetensors",
        "call": "<lora:cat:0.8> zxq",
        "message": "Done: cat.safetensors, 1200 steps.",
    }
    shown = status.render(ended, None)
    assert "<span>Done.</span> <code>&lt;lora:cat:0.8&gt; zxq</code> <span>works now.</span>" in shown
    assert "works now" not in status.render({**ended, "state": "failed"}, None) and "works now" not in status.render(
        {**ended, "file": None}, None
    )


def test_a_problem_names_its_field():
    shown = status.problems(["Steps: wrong.", "All is lost."], ["finetune_training_steps", ""])
    assert '<div data-field="finetune_training_steps">Steps: wrong.</div><div>All is lost.</div>' in shown


def test_files_of_the_library_can_be_downloaded_found_and_deleted():
    entry = {**ENTRY, "name": "cat", "file": "cat.safetensors", "base": "v1-5", "call": "<lora:cat:0.8>", "job": "run-1"}
    shown = library.files([entry], "key")
    assert 'href="finetune/v1/library/t/file?key=key" download="cat.safetensors"' in shown and "37.0 MB" in shown
    assert 'data-words="cat lora v1-5 &lt;lora:cat:0.8&gt; 1970-01-01"' in shown
    assert "Delete everything of this training" in shown and "library/t/picture?key=key&amp;small=1" in shown
    other = library.files([{**entry, "job": "", "picture": 0, "call": ""}], "key")
    assert "everything of this training" not in other and "no image yet" in other and "finetune-use" not in other
    assert "Nothing has been trained yet" in library.files([], "key")


def test_class_images_have_a_button_each():
    shown = library.class_images([{"folder": "f", "prompt": "a photo of dog", "files": ["00001.png", "00002.png"], "bytes": 5}], "key")
    assert shown.count("delete class image") == 2 and "2 images" in shown and "class-images/f/00002.png?key=key" in shown


def test_points_can_be_picked_but_not_the_result_itself():
    shown = outcome.render(JOB)
    assert shown.count("Use this snapshot") == 1 and "<b>the result</b>" in shown
    assert outcome.render({**JOB, "choices": {}}) == "" and outcome.render(None) == ""


def test_a_failed_job_offers_its_files_and_no_result():
    shown = outcome.render({**JOB, "state": "failed", "files": {}, "steps": 0, "call": ""})
    assert shown.count("Use this snapshot") == 2 and "ended without a result" in shown and "Use in txt2img" not in shown


def test_more_steps_begin_where_the_person_says():
    shown = outcome.render({**JOB, "states": [20, 40]})
    assert '<option value="20">from step 20' in shown and '<option value="40" selected>' in shown
    assert "<select" not in outcome.render({**JOB, "states": [40]})


def test_the_box_of_a_caption_holds_what_its_file_holds():
    own, none = (
        {**PICTURE, "caption": "zxq, on a chair", "caption_text": "on a chair", "caption_file": file} for file in ("/x/a.txt", None)
    )
    assert ">on a chair</textarea>" in gallery.render({**VIEW, "pictures": [own]}, "k")
    shown = gallery.render({**VIEW, "pictures": [none]}, "k")
    assert "></textarea>" in shown and ">zxq, on a chair</span>" in shown


def test_previews_stand_beside_the_base():
    rows = [{"step": step, "files": [f"previews/{step:06d}/00.png"], "prompts": ["a photo"]} for step in (0, 100)]
    shown = status.film("job", rows, "k")
    assert shown.index("<figcaption>base<") < shown.index("<figcaption>step 100<") and 'data-step="100"' in shown
    address = "finetune/v1/jobs/job/previews/000100/00.png?key=k"
    assert f'data-full="{address}"' in shown and f'src="{address}&amp;small=1"' in shown
    assert status.film("job", [], "k") == ""


def test_sizes_are_said_as_people_do():
    assert [html.size(count) for count in (12, 3_000, 37_000_000, 2_130_000_000)] == ["12 bytes", "3.0 KB", "37.0 MB", "2.1 GB"]


def test_each_figure_of_the_watch_has_its_curve():
    from lib_finetune.ui.status import _watch

    drawn = _watch({"colour drift": [(100, 2.0), (200, 8.0)], "class change": [(100, 0.1)], "other change": []})
    assert drawn.count("<svg") == 2 and "<b>8</b>" in drawn and "<b>0.1</b>" in drawn
    assert _watch({}) == ""


def test_the_writing_of_captions_is_told_while_it_lasts_and_looked_at_when_it_has_ended():
    task = {"id": "t", "state": "running", "done": 2, "total": 5, "message": EVIL, "result": {"captions": 1}}
    assert gallery.captions(None) == ""
    assert "waits for its turn" in gallery.captions({**task, "state": "queued", "total": 0})
    assert "2 of 5" in gallery.captions(task) and "stop task" in gallery.captions(task) and "data-look" not in gallery.captions(task)
    assert "1 caption written" in gallery.captions({**task, "state": "done"}) and 'data-look="t"' in gallery.captions(
        {**task, "state": "done"}
    )
    failed = gallery.captions({**task, "state": "failed"})
    assert "alert(1)" in failed and "<script>" not in failed and 'data-look="t"' in failed


def test_each_part_of_the_storage_has_its_size_and_what_can_be_emptied():
    parts = [{"name": "cache", "holds": "encoded images", "size": 3_000_000}, {"name": EVIL, "holds": EVIL, "size": 0}]
    shown = queue.storage(parts)
    assert all(text in shown for text in ("cache", "encoded images", "3.0 MB in all")) and "<script>" not in shown
    assert shown.count("<button") == 1 and "Empty cache? (encoded images)" in shown
