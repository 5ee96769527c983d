"""Textual Inversion: only the vectors move, they stand where the WebUI puts them, and the file loads elsewhere."""

import copy
import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_finetune.errors import CheckpointError, InputError
from lib_finetune.export import embedding_file
from lib_finetune.host.headless.pictures import HeadlessPictures
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from lib_finetune.ports.pictures import PictureRequest
from lib_finetune.text import word_name
from lib_finetune.text.learned import LearnedVectors, first_values, ids_of
from lib_finetune.text.prompts import CHUNK, END, START, TextEncoder, chunks_of
from lib_finetune.training.methods.textual_inversion import KEY
from tests.fakes.host import FakeHost, Recorder, tiny_tensors
from tests.fakes.runs import Bench, metadata, same

TEACH = {"method": "textual_inversion", "name": "zxqcat", "embedding.vectors": "3", "optimizer.warmup": "0"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return FakeHost(tmp_path_factory.mktemp("host")).text_tools().tokenizer


def bound():
    model = BorrowedModel(small_layout())
    model.bind(tiny_tensors())
    return model


def problems_of(bench, **changes):
    with pytest.raises(InputError) as caught:
        bench.run({**TEACH, **{name.replace("__", "."): value for name, value in changes.items()}})
    return {problem.field: problem.message for problem in caught.value.problems}


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_an_embedding_in_the_hosts_folder_and_the_model_as_it_was(bench):
    result, told, host = bench.run({**TEACH, "embedding.init": "red car", "embedding.rate": "0.1"})
    assert result.file == host.paths.embeddings / "zxqcat.safetensors" and result.file.stat().st_size < 100_000
    assert embedding_file.read(result.file).shape == (3, 32)
    assert not result.restoration.differences
    assert any("takes 3 of the 75 tokens" in line for line in told.lines) and any("write zxqcat" in line for line in told.lines)


def test_only_the_vectors_get_gradients_and_the_table_stays_bit_equal(bench, monkeypatch):
    from lib_finetune.assembly import builder

    seen = {}
    real = builder.assemble

    def assemble(settings, found, model, *rest):
        made = real(settings, found, model, *rest)
        table = model.text.embeddings.token_embedding.table.weight
        before = table.clone()
        generator = torch.Generator().manual_seed(0)
        loss, _ = made.trainer.method.loss(made.batches.batch(0), generator)
        loss.backward()
        own = made.trainer.method.parameters()["embedding"][KEY]
        moving = [p for root in (model.unet, model.text, model.vae) for p in root.parameters() if p.grad is not None]
        seen["only"] = len(moving) == 1 and moving[0] is own and bool((own.grad.abs().sum(1) > 0).all())
        made.trainer.optimizer.step()
        seen["table"] = torch.equal(table, before)
        seen["grad"] = [p for p in model.unet.parameters() if p.requires_grad] == []
        made.trainer.optimizer.zero_grad()
        return made

    monkeypatch.setattr(builder, "assemble", assemble)
    bench.run({**TEACH, "optimizer.weight_decay": "1", "embedding.rate": "0.1", "data.caption_dropout": "0"})
    assert seen == {"only": True, "table": True, "grad": True}


def test_a_stopped_run_goes_on_to_the_same_file(bench):
    from tests.fakes.host import Recorder

    straight = bench.run(TEACH, host=bench.host("straight"))[0]
    stopped, _, host = bench.run(TEACH, recorder=Recorder(stop_at=2))
    stopped.file.unlink()
    result = bench.run(TEACH, host=host)[0]
    assert same(load_file(str(straight.file)), load_file(str(result.file)))


def test_kept_norms_stay(bench):
    changes = {**TEACH, "embedding.init": "car", "embedding.rate": "0.5"}
    first = first_values(bound().text.embeddings.token_embedding.weight, ids_of(bench.host().text_tools().tokenizer, "car"), 3, 42)
    kept = embedding_file.read(bench.run({**changes, "embedding.keep_norm": "true"})[0].file)
    assert torch.allclose(kept.norm(dim=1), first.norm(dim=1), rtol=1e-4) and not torch.allclose(kept, first, atol=1e-3)


def test_two_embeddings_and_a_preview_work_in_one_prompt(bench):
    from lib_finetune.host.headless.pictures import HeadlessPictures

    host = bench.host()
    files = [bench.run({**TEACH, "name": name, "embedding.rate": "0.5"}, host=host, folder=name)[0].file for name in ("zxqone", "zxqtwo")]

    def picture(*embeddings):
        request = PictureRequest("zxqone beside zxqtwo", embeddings=embeddings, width_px=64, height_px=64, steps=2)
        return HeadlessPictures.make_batch(host.pictures, request, 1)[0].tobytes()

    assert len({picture(), picture(files[0]), picture(files[1]), picture(*files), picture(*files[::-1])}) == 4


# -- where the vectors stand -------------------------------------------------------------------------------------------


def test_a_prompt_without_the_name_gives_the_same_picture_bit_by_bit(bench):
    result, _, host = bench.run({"method": "textual_inversion", "name": "zxqcat", "embedding.rate": "0.1"})
    request = PictureRequest("a photo of a cat", width_px=64, height_px=64, steps=2)
    named = dataclasses.replace(request, prompt="a photo of zxqcat")
    plain = [
        HeadlessPictures.make_batch(host.pictures, dataclasses.replace(request, embeddings=files), 1)[0].tobytes()
        for files in ((), (result.file,))
    ]
    assert plain[0] == plain[1]
    assert HeadlessPictures.make_batch(host.pictures, dataclasses.replace(named, embeddings=(result.file,)), 1)[0].tobytes() != plain[0]


def test_vectors_stand_where_the_webui_puts_them(tokenizer):
    """The WebUI encodes zeros where the vectors go and then overwrites these rows of the token embeddings."""
    model = bound()
    vectors = torch.randn(3, 32)
    caption = "a photo of zxqcat on a table"
    ids = ids_of(tokenizer, caption)
    name = ids_of(tokenizer, "zxqcat")
    place = next(i for i in range(len(ids)) if ids[i : i + len(name)] == name)
    row = [START, *ids[:place], 0, 0, 0, *ids[place + len(name) :]]
    row += [END] * (CHUNK + 2 - len(row))
    table = model.text.embeddings.token_embedding

    def overwritten(_module, _given, output):
        return torch.cat([output[:, : place + 1], vectors[None], output[:, place + 4 :]], dim=1)

    handle = table.register_forward_hook(overwritten)
    with torch.no_grad():
        theirs = model.text(torch.tensor([row])).last_hidden_state
        handle.remove()
        learned = LearnedVectors(model.text, tokenizer, {"zxqcat": vectors})
        ours = TextEncoder(model.text, tokenizer, 1, learned=learned).encode([caption])
    assert torch.equal(ours, theirs)


def test_the_report_tells_how_many_captions_got_the_name(bench):
    (bench.images / "0.txt").write_text("a red thing", encoding="utf-8")
    (bench.images / "1.txt").write_text("ZXQcat, blue", encoding="utf-8")
    lines = bench.run(TEACH)[1].lines
    assert 'The trigger word "zxqcat" is put in front of 1 of 3 captions.' in lines


def test_a_word_of_many_vectors_is_never_parted():
    run = tuple(range(50000, 50010))
    rows = chunks_of([*range(1, 71), run, 5], comma=267)
    assert [len(row) for row in rows] == [77, 77] and rows[1][1:12] == [*run, 5] and rows[0][71:] == [END] * 6


def test_the_longer_of_two_names_goes_first(tokenizer):
    vectors = {"zxq": torch.zeros(1, 32), "zxq-cat": torch.ones(2, 32)}
    learned = LearnedVectors(bound().text, tokenizer, vectors)
    placed = [piece for piece in learned.place(ids_of(tokenizer, "zxq-cat and zxq")) if isinstance(piece, tuple)]
    assert [len(run) for run in placed] == [2, 1]


def test_init_words_are_spread_over_the_vectors():
    table = torch.randn(10, 4)
    assert torch.equal(first_values(table, [3], 2, 0), table[[3, 3]])
    assert torch.equal(first_values(table, [3, 5], 4, 0), table[[3, 3, 5, 5]])
    assert torch.allclose(first_values(table, [3, 5, 7, 9], 2, 0), torch.stack([table[[3, 5]].mean(0), table[[7, 9]].mean(0)]))
    drawn = first_values(table, [], 3, 0)
    assert torch.allclose(drawn.norm(dim=1), table.norm(dim=1).mean().expand(3)) and not torch.equal(drawn[0], drawn[1])


# -- captions ----------------------------------------------------------------------------------------------------------


def test_captions_get_the_name_in_front_and_templates_win(bench):
    from lib_finetune.assembly import automatic_settings, builder, dataset
    from tests.fakes.runs import settings

    (bench.images / "0.txt").write_text("a red thing", encoding="utf-8")

    def captions(**changes):
        chosen = settings(bench.images, {**TEACH, "data.caption_dropout": "0", **{f"embedding.{k}": v for k, v in changes.items()}})
        chosen, _ = automatic_settings.resolved(chosen, 3, 1)
        plan = builder.data_plan(chosen, dataset.find(chosen))
        return {item.caption for step in range(60) for item in plan.items(step)}

    plain = captions()
    assert "zxqcat, a red thing" in plain and len(plain) > 5 and all("zxqcat" in caption for caption in plain)
    assert all("style of zxqcat" in caption for caption in captions(template="style"))
    own = bench.root / "own.txt"
    own.write_text("[name], [filewords]\n{} here\n", encoding="utf-8")
    assert captions(template=str(own)) == {"zxqcat", "zxqcat, a red thing", "zxqcat here"}


# -- wrong input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cat", "dog"])
def test_a_word_of_the_vocabulary_is_refused(bench, name):
    assert f"my-{name}" in problems_of(bench, name=name)["name"]


@pytest.mark.parametrize(
    ("name", "inside"), [("woman2", "woman20"), ("1girl", "1 girl"), ("glass vase", "one another"), ("ishly", "ishly'"), ("2.5", "2.50")]
)
def test_a_name_that_prompts_hold_by_chance_is_refused(bench, tokenizer, name, inside):
    said = problems_of(bench, name=name)["name"]
    proposed = said.rsplit(" ", 1)[1].removesuffix(".")
    assert inside in said and word_name.refusal(tokenizer, proposed) is None
    if "other words, such as" in said:
        word = said.split("such as '")[1].split("'")[0]
        ids, longer = ids_of(tokenizer, name), ids_of(tokenizer, word)
        assert any(longer[place : place + len(ids)] == ids for place in range(1, len(longer)))


def test_a_name_inside_other_words_of_a_caption_or_template_is_refused(bench):
    (bench.images / "0.txt").write_text("a zxqcat on grass", encoding="utf-8")
    assert "a zxqcat on grass" in problems_of(bench, name="qcat")["name"]
    assert "close-up" in problems_of(bench, name="close-up")["name"]
    assert bench.run(TEACH)[0].outcome == "done"  # as a word it may stand in captions


@pytest.mark.parametrize("name", ["my-cat", "zxq-cat", "my_style", "kittycat", "anna-marie"])
def test_a_word_of_its_own_is_not_refused(tokenizer, name):
    assert word_name.refusal(tokenizer, name) is None


def test_the_name_of_another_embedding_is_refused(bench):
    folder = bench.host().paths.embeddings / "old"
    folder.mkdir(parents=True)
    (folder / "ZXQcat.pt").write_bytes(b"x")
    assert "zxqcat-2" in problems_of(bench)["name"]


def test_all_that_is_wrong_is_said_at_once(bench):
    found = problems_of(bench, embedding__template="/no/such.txt", embedding__vectors="99", data__class_images=str(bench.images))
    assert set(found) == {"embedding.template", "embedding.vectors", "data.class_images"}


def test_an_embedding_to_begin_with_must_fit(bench):
    file = bench.root / "old.safetensors"
    save_file({KEY: torch.zeros(2, 32)}, str(file))
    assert "Set it to 2" in problems_of(bench, embedding__init=str(file))["embedding.vectors"]
    save_file({KEY: torch.zeros(3, 768)}, str(file))
    assert "another family" in problems_of(bench, embedding__init=str(file))["embedding.init"]
    save_file({"a": torch.zeros(3, 32), "b": torch.zeros(3, 32)}, str(file))
    assert "exactly one tensor" in problems_of(bench, embedding__init=str(file))["embedding.init"]
    save_file({KEY: torch.full((3, 32), 0.25)}, str(file))
    begun = bench.run({**TEACH, "embedding.init": str(file), "embedding.rate": "0.000000001"})[0].file
    assert torch.allclose(embedding_file.read(begun), torch.full((3, 32), 0.25))


@pytest.mark.parametrize("text", ["old.PT", "no/such", "no\\such", "~/such", "x.png", "old.Safetensors"])
def test_what_names_a_file_that_is_not_there_is_an_error_at_the_field_and_no_words(bench, text):
    assert "does not exist" in problems_of(bench, embedding__init=text)["embedding.init"]


def test_a_file_begins_the_word_whatever_the_case_of_its_ending(bench):
    file = bench.root / "old.PT"
    torch.save({"string_to_param": {"*": torch.full((3, 32), 0.25)}}, file)
    result = bench.run({**TEACH, "embedding.init": f" {file} ", "embedding.rate": "0.000000001"})[0].file
    assert torch.allclose(embedding_file.read(result), torch.full((3, 32), 0.25))
    assert str(bench.root) not in json.dumps(metadata(result)) and "old.PT" in json.dumps(metadata(result))


def test_a_list_of_captions_is_named_without_its_place(bench):
    (bench.root / "mine.txt").write_text("a photo of {trigger}")
    result = bench.run({**TEACH, "embedding.template": str(bench.root / "mine.txt")})[0].file
    assert str(bench.root) not in json.dumps(metadata(result)) and "mine.txt" in json.dumps(metadata(result))


def test_reading_what_is_no_file_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        embedding_file.read(tmp_path / "no.pt")


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_pt_form_is_the_webuis(bench):
    file = bench.run({**TEACH, "embedding.format": "pt"})[0].file
    data = torch.load(file, weights_only=True)
    assert set(data) == {"string_to_token", "string_to_param", "name", "step", "sd_checkpoint", "sd_checkpoint_name"}
    assert (data["name"], data["step"], data["sd_checkpoint_name"], list(data["string_to_param"])) == ("zxqcat", 4, "tiny", ["*"])
    assert not file.read_bytes().startswith(b"PK")  # the WebUI's unpickler refuses the zip form of newer torch
    assert file.stat().st_size < 100_000


@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_diffusers_gives_the_conditioning_that_we_give(bench, form):
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    result, _, host = bench.run({**TEACH, "embedding.rate": "0.5", "embedding.format": form})
    plain, ours = bound(), bound()
    text = CLIPTextModel(CLIPTextConfig(**small_layout().text))
    inner = getattr(text, "text_model", text)  # transformers 5 has no level between the two
    inner.load_state_dict(plain.text.state_dict(), strict=False)
    plain.unet.register_to_config(sample_size=64)  # the diffusers of the host's set compares it
    tokenizer = copy.deepcopy(host.text_tools().tokenizer)  # diffusers adds the word to it
    pipe = StableDiffusionPipeline(
        vae=plain.vae, text_encoder=text, tokenizer=tokenizer, unet=plain.unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    learned = LearnedVectors(ours.text, host.text_tools().tokenizer, {"zxqcat": embedding_file.read(result.file)})
    with torch.no_grad():
        mine = TextEncoder(ours.text, host.text_tools().tokenizer, 1, learned=learned).encode(["a photo of zxqcat here"])
        pipe.load_textual_inversion(str(result.file.parent), weight_name=result.file.name, token="zxqcat")
        prompt = pipe.maybe_convert_prompt("a photo of zxqcat here", pipe.tokenizer)
        ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        theirs = pipe.text_encoder(ids).last_hidden_state
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_a_word_that_learns_nothing_stops_the_training_and_says_why(bench, monkeypatch):
    """The name stands behind what is read of the caption, as if nobody had put it in front: no vector is ever looked up."""
    from lib_finetune.errors import NothingLearnedError

    monkeypatch.setattr("lib_finetune.data.captioning.Captioning._with_trigger_read", lambda _self, caption, _trigger: caption)
    for image in bench.images.glob("*.png"):
        image.with_suffix(".txt").write_text("a photo of a thing " * 20 + "zxqcat", encoding="utf-8")
    changes = {"method": "textual_inversion", "name": "zxqcat", "training.steps": "30", "data.max_tokens": "75"}
    recorder = Recorder()
    with pytest.raises(NothingLearnedError, match=r"None of the 4 vectors .* in 10 steps"):
        bench.run({**changes, "data.caption_dropout": "0.3"}, recorder=recorder)
    assert 10 <= recorder.polls <= 30


def test_a_single_vector_that_is_cut_off_is_counted():
    from lib_finetune.errors import NothingLearnedError
    from lib_finetune.training.methods.textual_inversion import LearningCheck

    vectors = torch.nn.Parameter(torch.ones(3, 2))
    batch = SimpleNamespace(captions=("a zxqcat",), prior=(False,))
    check = LearningCheck(vectors)

    def step(number):
        check.expect(batch if number % 2 else SimpleNamespace(captions=("",), prior=(False,)))
        (vectors[:2].sum() * (float("inf") if number == 1 else 1.0)).backward()
        check.after_step()
        vectors.grad = None

    for number in range(21):  # ten with a caption, of which a loss scaler would skip one
        step(number)
    with pytest.raises(NothingLearnedError, match="Only 2 of the 3"):
        step(21)
