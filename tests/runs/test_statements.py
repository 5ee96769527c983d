"""What log, tab, help and metadata say of a run is what the run does: each sentence is compared with what was counted."""

import json
import shutil
from collections import Counter
from itertools import pairwise

import pytest

from lib_finetune.assembly import automatic_settings, builder, dataset, scale_groups
from lib_finetune.errors import InputError
from lib_finetune.estimates import trial
from lib_finetune.preflight import dataset_report
from lib_finetune.runs import continuation
from lib_finetune.runs.runner import Runner
from tests.fakes.host import Recorder
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, metadata, same, settings, tensors
from tests.fakes.watched_run import check, watching


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, pictures=3)


def watched(bench, changes=None, expect=(), **how):
    """A run, counted and compared with what it says."""
    with watching() as counted:
        result, recorder, host = bench.run(changes, **how)
    check(counted, recorder.lines, metadata(result.file), expect)
    return counted, recorder, host


def test_the_recorder_counts_steps_pictures_rates_and_scales(bench):
    counted, _, _ = watched(bench, {"training.accumulation": "2"})
    assert counted.steps == 4 and sum(counted.views.values()) == 8 and counted.accumulation == 2
    assert counted.trained("unet") == [1, 2, 3, 4] and counted.highest("unet") > 0
    assert counted.scales == {"unet": {4.0}, "text": {4.0}} and counted.epoch_steps == 3


# -- rates -------------------------------------------------------------------------------------------------------------

LORA = {"method": "lora"}
PIVOT = {"method": "pivotal_tuning", "name": "zxqcat", "embedding.vectors": "2", "embedding.until": "1"}
WHOLE = {"method": "dreambooth", "data.trigger": "sks", "tuning.text_encoder_until": "1"}
WORD = {"method": "textual_inversion", "name": "zxqcat", "embedding.vectors": "2"}


@pytest.mark.parametrize("changes", [LORA, PIVOT, WHOLE], ids=["lora", "pivot", "whole"])
@pytest.mark.parametrize("optimizer", ["adamw", "lion", "adafactor"])
def test_the_text_encoders_automatic_rate_is_half_of_what_the_unet_really_has(bench, changes, optimizer):
    counted, _, _ = watched(bench, {**changes, "optimizer.name": optimizer, "optimizer.unet_rate": "1e-6"}, {"rates", "views"})
    assert counted.highest("unet") == 1e-6 and counted.highest("text encoder") == 5e-7


@pytest.mark.parametrize("changes", [LORA, PIVOT, WHOLE], ids=["lora", "pivot", "whole"])
def test_where_the_optimizer_takes_one_rate_automatic_ones_are_the_unets(bench, changes):
    counted, _, _ = watched(bench, {**changes, "optimizer.name": "prodigy", "optimizer.unet_rate": "0.5"}, {"rates"})
    assert {rate for rates in counted.rates for rate in rates.values()} - {0.0} == set(map(max, (r.values() for r in counted.rates)))
    assert counted.highest("unet") == counted.highest("text encoder") == 0.5


@pytest.mark.parametrize("changes", [LORA, PIVOT, WHOLE, WORD], ids=["lora", "pivot", "whole", "word"])
def test_all_rates_stand_in_the_log(bench, changes):
    watched(bench, changes, {"rates", "views"})


# -- scale -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ["1", "16", "128"])
@pytest.mark.parametrize("rank", ["16", "128"])
def test_alpha_does_not_raise_the_rate_of_patches_that_it_does_not_scale(bench, rank, alpha):
    whole = {"network.adapter": "lokr", "network.rank": rank, "network.alpha": alpha}
    counted, _, _ = watched(bench, whole, {"rates"})
    assert counted.scales == {"unet": {1.0}, "text": {1.0}} and counted.highest("unet") == 1e-4


@pytest.mark.parametrize(("rank", "alpha", "idle"), [("16", "1", True), ("16", "16", False), ("2", "1", False)])
def test_where_alpha_does_nothing_it_is_said(bench, rank, alpha, idle):
    counted, recorder, _ = watched(bench, {"network.adapter": "lokr", "network.rank": rank, "network.alpha": alpha})
    assert any(line.startswith(f"Alpha ({alpha}) changes nothing") for line in recorder.lines) == idle
    assert not idle or counted.scales == {"unet": {1.0}, "text": {1.0}}


WHOLE_AND_FACTORED = {"network.adapter": "lokr", "network.rank": "4", "network.alpha": "1", "network.factor": "4"}
CONVOLUTIONS = {"network.rank": "4", "network.alpha": "1", "network.conv_rank": "2", "network.conv_alpha": "2"}


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
@pytest.mark.parametrize("changes", [WHOLE_AND_FACTORED, CONVOLUTIONS], ids=["lokr", "convolutions"])
def test_each_patch_has_the_rate_that_suits_how_much_it_counts(bench, changes, optimizer):
    counted, _, _ = watched(bench, {**changes, "optimizer.name": optimizer}, {"rates", "scale rates"})
    usual = 1e-4 * (0.2 if optimizer == "lion" else 1)
    assert counted.scales["unet"] == {0.25, 1.0} and counted.highest("unet") == usual
    for (part, scale), pace in counted.paces.items():
        assert pace * scale == pytest.approx(usual / (2 if part == "text" else 1))


@pytest.mark.parametrize("changes", [{"optimizer.unet_rate": "3e-5", "optimizer.text_encoder_rate": "2e-5"}, {"optimizer.name": "prodigy"}])
def test_where_patches_that_count_otherwise_have_one_rate_that_is_said(bench, changes):
    counted, _, _ = watched(bench, {**CONVOLUTIONS, **changes}, {"rates", "one rate"})
    assert len({pace for (part, _), pace in counted.paces.items() if part == "unet"}) == 1


@pytest.mark.parametrize("changes", [WHOLE_AND_FACTORED, CONVOLUTIONS], ids=["lokr", "convolutions"])
def test_patches_that_count_otherwise_keep_their_rates_when_a_run_resumes(bench, changes):
    whole, _, _ = bench.run(changes, host=bench.host("whole"))
    _, _, host = bench.run(changes, recorder=Recorder(stop_at=2))
    shutil.rmtree(host.paths.lora)
    with watching() as counted:
        result, recorder, _ = bench.run(changes, host=host)
    check(counted, recorder.lines, metadata(result.file), {"scale rates"})
    assert counted.first == 2 and same(tensors(whole.file), tensors(result.file))


def test_a_run_that_began_with_one_rate_for_all_its_patches_resumes_with_it(bench, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(scale_groups, "groups_apart", lambda *_: {})
        whole, _, _ = bench.run(CONVOLUTIONS, host=bench.host("whole"))
        _, _, host = bench.run(CONVOLUTIONS, recorder=Recorder(stop_at=2))
    shutil.rmtree(host.paths.lora)
    result, recorder, _ = bench.run(CONVOLUTIONS, host=host)
    assert same(tensors(whole.file), tensors(result.file)) and any("have one rate" in line for line in recorder.lines)


def test_further_steps_continue_each_patchs_own_rate(bench):
    before, after = gone_on(bench, {**FAST, **CONVOLUTIONS, "training.steps": "6"}, 8, ("further steps", "further rates", "scale rates"))
    for counted in (before, after):
        assert counted.paces[("unet", 0.25)] == pytest.approx(4 * counted.paces[("unet", 1.0)])
    assert all(rates["unet scale 0.25"] == pytest.approx(4 * rates["unet"]) for rates in (*before.rates, *after.rates))


@pytest.mark.parametrize(
    ("changes", "groups"), [(CONVOLUTIONS, ["unet", "text encoder", "unet scale 0.25"]), (PIVOT, ["unet", "text encoder", "embedding"])]
)
def test_the_file_tells_every_rate(bench, changes, groups):
    with watching() as counted:
        result, _, _ = bench.run(changes)
    told_rates = json.loads(metadata(result.file)["finetune_rates"])
    assert told_rates == {group: counted.highest(group) for group in groups}


# -- steps and images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"training.batch": "8", "training.steps": "12"},
        {"training.batch": "2", "training.steps": "7"},
        {"training.batch": "2", "training.accumulation": "3", "training.steps": "4"},
        {"data.held_out": "1", "training.batch": "2", "training.steps": "5", **WORD},
    ],
)
def test_so_often_each_picture_is_seen(tmp_path, changes):
    bench = Bench(tmp_path, pictures=5)
    watched(bench, changes, {"views"})


def planned(bench, changes):
    """(the settings, resolved; the plan of their images)."""
    chosen = settings(bench.images, {"training.steps": "auto", **changes})
    plan = builder.data_plan(chosen, dataset.find(chosen))
    return automatic_settings.resolved(chosen, plan.epoch, 1)[0], plan


def views_of(chosen, plan):
    """How often each image comes, counted item by item."""
    micro_steps = chosen.training.steps * chosen.training.accumulation
    seen = Counter(item.picture for step in range(micro_steps) for item in plan.items(step))
    return [seen[index] for index in range(len(plan.pictures))]


MIXED = {(64, 64): 9, (96, 64): 5, (64, 96): 3, (128, 64): 2, (64, 128): 1}


@pytest.mark.parametrize("batch", ["1", "4", "8"])
@pytest.mark.parametrize("accumulation", ["1", "3"])
def test_automatic_steps_show_each_picture_so_often_as_is_meant_whatever_fills_the_batches(tmp_path, batch, accumulation):
    bench = Bench(tmp_path, pictures=0)
    for number, (size, count) in enumerate(MIXED.items()):
        draw(bench.images / f"sub{number}", count, size, seed=number)
    chosen, plan = planned(bench, {"data.resolution": "128", "training.batch": batch, "training.accumulation": accumulation})
    seen = views_of(chosen, plan)
    low, high = automatic_settings.STEPS_LOW_HIGH["lora"]
    assert plan.views(0, chosen.training.steps * int(accumulation)) == seen
    assert chosen.training.steps in (low, high) or 99 <= sum(seen) / len(seen) <= 101


def test_repeats_weigh_pictures_against_each_other_and_nothing_else(tmp_path):
    steps = {}
    for folders in ("1_zxq cat", "10_zxq cat", "100_zxq cat"):
        bench = Bench(tmp_path / folders, pictures=0)
        draw(bench.images / folders, 8)
        chosen, plan = planned(bench, {})
        steps[folders] = chosen.training.steps
        assert set(views_of(chosen, plan)) == {100}
    assert set(steps.values()) == {800}


def test_a_picture_with_more_repeats_comes_more_often_at_the_same_mean(tmp_path):
    bench = Bench(tmp_path, pictures=0)
    draw(bench.images / "3_a cat", 4)
    draw(bench.images / "1_b cat", 4, seed=1)
    chosen, plan = planned(bench, {})
    seen = views_of(chosen, plan)
    assert chosen.training.steps == 800 and sum(seen) == 800 and set(seen) == {150, 50}


@pytest.mark.parametrize("batch", ["1", "2", "4", "8"])
def test_each_pictures_pull_is_what_its_repeats_say_whatever_batch_it_falls_into(tmp_path, batch):
    bench = Bench(tmp_path, pictures=0)
    draw(bench.images / "1_a cat", 5)
    draw(bench.images / "3_b cat", 2, (128, 64), seed=1)
    changes = {"data.resolution": "128", "training.batch": batch}
    _, plan = planned(bench, changes)
    counted, _, _ = watched(bench, {**changes, "training.steps": str(plan.epoch_steps), "network.text_encoder": "false"}, {"views"})
    pulls, repeats = counted.pulls, {picture.name: picture.repeats for picture in plan.pictures}
    assert {round(pull / repeats[name], 9) for name, pull in pulls.items()} == {round(sum(pulls.values()) / 11, 9)}
    assert sum(pulls.values()) == pytest.approx(counted.steps)  # as much as without partial batches


def test_a_batch_larger_than_what_a_size_has_is_said(tmp_path):
    bench = Bench(tmp_path, pictures=3)
    _, recorder, _ = watched(bench, {"training.batch": "8", "training.steps": "2"}, {"views"})
    assert any(line.startswith("The batch size is 8, and some sizes have fewer images (3 at 64×64)") for line in recorder.lines)
    _, recorder, _ = watched(bench, {"training.batch": "3", "training.steps": "2", "name": "dog"}, {"views"})
    assert not any(line.startswith("The batch size is") for line in recorder.lines)


# -- further steps -----------------------------------------------------------------------------------------------------


def gone_on(bench, changes, more, expect=("further steps", "further rates", "rates", "views"), step=None):
    """(what was counted before, and in the further steps), compared with what was said."""
    with watching() as before:
        _, _, host = bench.run(changes)
    run = host.paths.data / "runs" / "run"
    given = settings(bench.images, changes)
    name = f"{given.name}more"
    chosen, folder = continuation.further(host, given, run, step, more, name, run.with_name("more"))
    with watching() as after:
        after.ended = before.rates[(step or 0) - 1]
        recorder = Recorder()
        result = Runner(chosen, host, folder, recorder, recorder).execute()
    check(after, recorder.lines, metadata(result.file), expect)
    return before, after


def rates_of(counted, group="unet"):
    return [rates.get(group, 0.0) for rates in counted.rates]


FAST = {"network.text_encoder": "false", "optimizer.warmup": "0.05"}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "polynomial", "cosine_with_restarts", "constant"])
def test_further_steps_have_a_schedule_of_their_own_and_nothing_jumps(bench, schedule):
    before, after = gone_on(bench, {**FAST, "optimizer.schedule": schedule, "training.steps": "6"}, 8)
    row, peak = rates_of(before)[-1:] + rates_of(after), before.highest("unet")
    rises = [following - rate for rate, following in pairwise(row)]
    assert max(rises) <= peak / 5 + 1e-12 or schedule == "cosine_with_restarts"
    assert rises[0] <= peak / 5 and max(row) == pytest.approx(peak)
    assert set(row) == {peak} if schedule == "constant" else row[-1] < peak


def test_further_steps_can_go_on_at_the_rate_that_the_run_ended_with(bench):
    changes = {**FAST, "optimizer.further": "end", "training.steps": "4"}
    before, after = gone_on(bench, changes, 3)
    assert set(rates_of(after)) == {rates_of(before)[-1]}


@pytest.mark.parametrize("more", [3, 4, 5])
def test_further_steps_from_a_snapshot_on_the_way_are_further_steps_however_many(bench, more):
    changes = {**PIVOT, "embedding.until": "0.5", "saving.states": "all", "saving.every_steps": "1", "training.steps": "8"}
    _, after = gone_on(bench, changes, more, step=4)
    assert after.first == 4 and after.steps == more and after.trained("embedding")[0] == 5


@pytest.mark.parametrize("way", ["new", "end"])
@pytest.mark.parametrize(
    ("changes", "group", "share"),
    [
        ({**PIVOT, "embedding.until": "0.5"}, "embedding", 0.5),
        ({**WHOLE, "tuning.text_encoder_until": "0.5", "saving.states": "last"}, "text encoder", 0.5),
    ],
    ids=["word", "text encoder"],
)
def test_a_share_of_the_steps_is_one_of_the_further_steps(bench, changes, group, share, way):
    before, after = gone_on(bench, {**changes, "optimizer.further": way, "training.steps": "4"}, 6)
    assert before.trained(group) == [1, 2] and after.trained(group) == [5, 6, 7]


def test_a_part_that_would_stand_still_in_all_further_steps_is_refused_before_anything_is_made(bench):
    changes = {**PIVOT, "embedding.until": "0.4"}
    _, _, host = bench.run(changes)
    run = host.paths.data / "runs" / "run"
    with pytest.raises(InputError, match=r"embedding\.until: leaves the word none of the 1 further steps"):
        continuation.further(host, settings(bench.images, changes), run, None, 1, "zxqmore", run.with_name("more"))
    assert not run.with_name("more").exists()


def test_a_stopped_run_that_gets_more_steps_keeps_what_was_done_and_goes_on_gently(bench):
    with watching() as before:
        _, _, host = bench.run({**FAST, "training.steps": "8"}, recorder=Recorder(stop_at=3))
    shutil.rmtree(host.paths.lora)
    after, _, _ = watched(bench, {**FAST, "training.steps": "12"}, {"further rates"}, host=host)
    assert after.first == 3 and after.steps == 9
    assert rates_of(after)[0] == pytest.approx(rates_of(before)[-1], rel=0.3) and rates_of(after)[-1] < before.highest("unet") / 2


def test_a_run_with_more_steps_that_is_stopped_goes_on_as_it_would_have(bench):
    changes = {**FAST, "training.steps": "4"}
    _, _, host = bench.run(changes)
    run, given = host.paths.data / "runs" / "run", settings(bench.images, changes)
    for name in ("whole", "parted"):
        chosen, folder = continuation.further(host, given, run, None, 6, name, run.with_name(name))
        if name == "parted":
            recorder = Recorder(stop_at=2)
            Runner(chosen, host, folder, recorder, recorder).execute()
            (host.paths.lora / "parted.safetensors").unlink()
        recorder = Recorder()
        Runner(chosen, host, folder, recorder, recorder).execute()
    assert same(*(tensors(host.paths.lora / f"{name}.safetensors") for name in ("whole", "parted")))


def test_prodigys_further_steps_have_one_rate_for_all_that_moves(bench):
    changes = {**PIVOT, "embedding.until": "0.5", "optimizer.name": "prodigy", "training.steps": "4"}
    _, after = gone_on(bench, changes, 4)
    assert all(len({rate for rate in rates.values() if rate > 0}) == 1 for rates in after.rates)


def test_a_run_that_an_older_version_began_keeps_the_automatic_values_that_it_began_with(bench, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(automatic_settings, "_usual_rates", lambda *_: {"unet": 3e-4, "text encoder": 7e-5})
        _, _, host = bench.run(recorder=Recorder(stop_at=2))
    shutil.rmtree(host.paths.lora)
    counted, _, _ = watched(bench, host=host)
    assert counted.first == 2 and set(map(tuple, (sorted(rates) for rates in counted.rates))) == {("text encoder", "unet")}
    assert counted.rates[0]["unet"] / counted.rates[0]["text encoder"] == pytest.approx(30 / 7)


# -- captions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "trained"),
    [
        ("a photo of {trigger} {class} <lora:x:1>", "a photo of zxq cat"),
        ("(masterpiece:1.2), {trigger} [filewords] <lyco:y:0.5>", "masterpiece, zxq"),
        ("<hypernet:z:1>, {trigger}", "zxq"),
        ("{trigger}, a {red|blue} {class}", "zxq, a red cat"),
    ],
)
def test_a_template_written_as_a_prompt_is_trained_as_captions_are_and_that_is_said(bench, template, trained):
    counted, recorder, _ = watched(bench, {"data.template": template, "data.caption_dropout": "0"})
    assert set(counted.captions) == {trained}
    assert [line for line in recorder.lines if line.startswith("The caption template is read as a caption is")]


def test_templates_of_a_word_written_as_prompts_are_too(bench):
    (bench.root / "words.txt").write_text("a photo of {trigger} <lora:x:1>\n(big:1.2) {trigger}\nplain {trigger}")
    changes = {**WORD, "embedding.template": str(bench.root / "words.txt"), "data.caption_dropout": "0", "training.steps": "12"}
    counted, recorder, _ = watched(bench, changes)
    assert set(counted.captions) <= {"a photo of zxqcat", "big zxqcat", "plain zxqcat"} and len(counted.captions) > 1
    assert [line for line in recorder.lines if line.endswith('2 of 3, first "a photo of {trigger}".')]


def test_a_template_without_such_signs_stays_as_it_is(bench):
    counted, recorder, _ = watched(bench, {"data.template": "saber (fate), {trigger}", "data.caption_dropout": "0"})
    assert set(counted.captions) == {"saber (fate), zxq"} and not [line for line in recorder.lines if "caption template" in line]


# -- images ------------------------------------------------------------------------------------------------------------


def mixed(bench):
    """Images of two sizes and two subjects, some with captions."""
    shutil.rmtree(bench.images)
    draw(bench.images / "2_zxq cat", 4)
    draw(bench.images / "1_abc dog", 3, (128, 64), seed=1)
    (bench.images / "2_zxq cat" / "0.txt").write_text("asleep, on grass")
    (bench.images / "1_abc dog" / "1.txt").write_text("abc dog, running")


@pytest.mark.parametrize("changes", [LORA, WHOLE, PIVOT], ids=["lora", "whole", "pivot"])
@pytest.mark.parametrize("prior", ["pictures", "off"])
def test_all_that_is_said_of_the_images_is_what_the_batches_hold(bench, changes, prior):
    mixed(bench)
    classes = {"data.class_count": "2" if prior == "pictures" else "0", "objective.prior": prior}
    more = {"data.resolution": "128", "data.held_out": "2", "training.batch": "3", "training.steps": "9", "data.caption_dropout": "0"}
    expected = {"views", "rates", "sizes", "trigger in front", "validation images", "batch", "subjects"}
    expected |= {"class images"} if prior == "pictures" else set()
    watched(bench, {"data.trigger": "zxq", **changes, **classes, **more}, expected - ({"trigger in front"} if changes is WHOLE else set()))


def test_what_the_tab_and_the_forecast_say_is_what_the_log_says(bench):
    mixed(bench)
    changes = {"data.resolution": "128", "training.steps": "9", "training.batch": "2"}
    counted, recorder, host = watched(bench, changes, {"views", "sizes", "subjects"})
    view = dataset_report.view(settings(bench.images, changes), host.text_tools(), dataset_report.Looks())
    assert view.sentence in recorder.lines
    assert {(each.width_px, each.height_px): each.pictures for each in view.buckets} == counted.sizes
    assert (view.views, view.batches) == (sum(p.repeats for p in view.pictures), counted.epoch_steps)
    forecast = trial.probe(settings(bench.images, {**changes, "name": "other"}), host, lambda: None)
    assert forecast.steps == counted.steps and forecast.subjects == view.subject_lines
    assert forecast.size in counted.sizes


def test_a_run_that_resumes_says_where(bench):
    _, _, host = bench.run({"training.steps": "8"}, recorder=Recorder(stop_at=3))
    shutil.rmtree(host.paths.lora)
    watched(bench, {"training.steps": "8"}, {"resuming", "rates", "sizes"}, host=host)


@pytest.mark.parametrize("changes", [WORD, PIVOT], ids=["word", "pivot"])
def test_the_words_tokens_are_its_vectors(bench, changes):
    watched(bench, changes, {"tokens of the word"})


def test_the_recorder_notices_what_is_not_so(bench):
    with watching() as counted:
        result, _, _ = bench.run({"training.steps": "4"})
    lies = ("Sizes in training: 4 at 64×64 px.", "Resuming at step 2 of 4.", "Learning rates at their highest: UNet 0.001, text encoder 0.0001.",
            "Validation images, not trained on: 0.png.", "The batches hold 3 of 3 class images, one beside each image.",
            "In a prompt, zxq takes 4 of the 75 tokens.", "4 steps of 1 image: each of the 3 is seen 2 times.")  # fmt: skip
    for lie in lies:
        with pytest.raises(AssertionError):
            check(counted, [lie])
    for key, wrong in {
        "ss_epoch": "9",
        "ss_num_train_images": "4",
        "ss_seed": "1",
        "ss_optimizer": "lion",
        "finetune_rates": '{"unet": 1.0}',
    }.items():
        with pytest.raises(AssertionError, match=key):
            check(counted, [], {**metadata(result.file), key: wrong})
