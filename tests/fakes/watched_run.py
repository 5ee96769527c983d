"""Watches a run: counts what the loop really does, and compares with it each sentence that the run says about itself.

    with watching() as counted:
        result, recorder, host = bench.run(changes)
    check(counted, recorder.lines, metadata(result.file), expect={"rates", "views"})

A sentence is known by a `Claim`: a pattern, and a comparison of what it says with what was counted. A new sentence about a
run gets a claim here; `check` fails when a claim is expected and no sentence of it came, so that no test passes unseen.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from unittest.mock import patch

import torch

from lib_finetune.assembly import builder
from lib_finetune.config.settings import WORD_METHODS
from lib_finetune.training.loop import Trainer
from lib_finetune.training.optim.flat import Flat


@dataclass(frozen=True)
class Shown:
    """An image in a micro step: its name, the caption that it came with, whether it is of the class, its size and its weight in the gradient."""

    name: str
    caption: str
    prior: bool
    size: tuple[int, int]
    pull: float


@dataclass
class Counted:
    """What was counted.

    Attributes:
        first: the step (0-based) at which the run began.
        rates: of each step, by group, as the optimizer had them when it moved.
        shown: of each micro step.
        scales: of the patched modules by part, as the adapter's layers have them.
        alphas: of the patched modules by part.
        vectors: of the word that is taught.
        seed: of the noise.
        optimizer: the class that moved the weights.
        paces: highest rate of the patches that count so much, by part and scale.
        epoch_steps: micro steps in an epoch.
        accumulation: micro steps in a step.
        ended: rates of the last step of the run before, where a test hands them over.
        resumed: whether steps of the same schedule were done before.
    """

    first: int = 0
    rates: list[dict[str, float]] = field(default_factory=list)
    shown: list[list[Shown]] = field(default_factory=list)
    scales: dict[str, set[float]] = field(default_factory=dict)
    alphas: dict[str, set[float]] = field(default_factory=dict)
    paces: dict[tuple[str, float], float] = field(default_factory=dict)
    vectors: int = 0
    seed: int = -1
    optimizer: str = ""
    epoch_steps: int = 0
    accumulation: int = 1
    ended: dict[str, float] = field(default_factory=dict)
    resumed: bool = False

    @property
    def steps(self) -> int:
        """Steps that were done here."""
        return len(self.rates)

    @property
    def views(self) -> Counter[str]:
        """How often each training image came."""
        return Counter(shown.name for batch in self.shown for shown in batch if not shown.prior)

    @property
    def pulls(self) -> dict[str, float]:
        """Weight of each training image in all gradients together."""
        sums: dict[str, float] = defaultdict(float)
        for batch in self.shown:
            for shown in batch:
                if not shown.prior:
                    sums[shown.name] += shown.pull
        return dict(sums)

    @property
    def captions(self) -> Counter[str]:
        """How often each caption of a training image came; "" where it was dropped."""
        return Counter(shown.caption for batch in self.shown for shown in batch if not shown.prior)

    @property
    def class_captions(self) -> Counter[str]:
        """How often each caption of a class image came."""
        return Counter(shown.caption for batch in self.shown for shown in batch if shown.prior)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """How many of the training images that came have each size."""
        return Counter({shown.name: shown.size for batch in self.shown for shown in batch if not shown.prior}.values())

    @property
    def class_images(self) -> int:
        """How many class images came; those of several classes may have one name."""
        return len({(shown.name, shown.caption) for batch in self.shown for shown in batch if shown.prior})

    def led_by(self, words: str) -> int:
        """How many training images came with a caption that begins with these words."""
        begins = {shown.name for batch in self.shown for shown in batch if not shown.prior and f"{shown.caption},".startswith(f"{words},")}
        return len(begins)

    @property
    def largest_batch(self) -> int:
        """Training images in the fullest batch."""
        return max(sum(not shown.prior for shown in batch) for batch in self.shown)

    def highest(self, group: str) -> float:
        """Highest rate that a group had; 0 where it never moved."""
        return max((rates.get(group, 0.0) for rates in self.rates), default=0.0)

    def rate_fault(self, what: str, said: float, group: str) -> str:
        """A complaint about a highest rate, or ""; of a run that resumed only a part was counted, which may have been lower."""
        highest = self.highest(group)
        return "" if self.resumed and highest <= said * 1.006 else differs(what, said, highest)

    def trained(self, group: str) -> list[int]:
        """Steps (counted from 1 over the whole run) in which a group moved."""
        return [self.first + place + 1 for place, rates in enumerate(self.rates) if rates.get(group, 0.0) > 0]


def _weights(trainer: Trainer, group: Mapping[str, Any]) -> list[torch.nn.Parameter]:
    """Those that a group moves, also where they lie in one tensor."""
    optimizer = trainer.optimizer
    return optimizer.groups[group["name"]].parameters if isinstance(optimizer, Flat) else group["params"]


@contextmanager
def watching() -> Iterator[Counted]:
    """Inside, the run that is done is counted."""
    counted = Counted()
    patched: dict[int, tuple[str, float]] = {}
    one_step, adapter_of, assemble = Trainer._one_step, builder.adapter_of, builder.assemble

    def watched_step(trainer: Trainer, rates: Mapping[str, float], batches: Sequence[Any]) -> Any:
        if not counted.rates:
            counted.first, counted.accumulation = trainer.step, trainer.plan.accumulation
            counted.seed, counted.optimizer = (
                trainer.plan.seed,
                type(getattr(trainer.optimizer, "optimizer", trainer.optimizer)).__name__.lower(),
            )
            counted.vectors = sum(len(weight) for weight in trainer.method.parameters().get("embedding", {}).values())
            counted.resumed = trainer.step != getattr(trainer.plan.rates, "__self__").stretch.first  # noqa: B009  mypy
        outcome = one_step(trainer, rates, batches)
        counted.rates.append({group["name"]: float(group["lr"]) for group in trainer.optimizer.param_groups})
        for group in trainer.optimizer.param_groups:
            for place in {patched[id(weight)] for weight in _weights(trainer, group) if id(weight) in patched}:
                counted.paces[place] = max(counted.paces.get(place, 0.0), float(group["lr"]))
        micro = trainer.step * trainer.plan.accumulation
        for part, batch in enumerate(batches):
            own = sum(not prior for prior in batch.prior)
            weight = trainer.plan.weight(micro + part) / trainer.plan.accumulation / max(1, own)
            size = batch.mean.shape[3] * 8, batch.mean.shape[2] * 8
            counted.shown.append([Shown(*each, size, weight) for each in zip(batch.names, batch.captions, batch.prior, strict=True)])
        return outcome

    def watched_adapter(*args: Any, **kwargs: Any) -> Any:
        adapter = adapter_of(*args, **kwargs)
        for target, layer in adapter._layers:
            scale = getattr(layer, "scale", None)
            scale = target.alpha / target.rank if scale is None or isinstance(scale, dict) else float(scale)
            counted.scales.setdefault(target.part, set()).add(scale)
            patched.update({id(weight): (target.part, scale) for weight in layer.parameters() if weight.requires_grad})
        for name, value in adapter.state().items():
            if name.endswith(".alpha"):
                counted.alphas.setdefault("text" if name.startswith("lora_te") else "unet", set()).add(float(value))
        return adapter

    def watched_assembly(*args: Any, **kwargs: Any) -> Any:
        assembly = assemble(*args, **kwargs)
        counted.epoch_steps = assembly.plan.epoch_steps
        return assembly

    with (
        patch.object(Trainer, "_one_step", watched_step),
        patch.object(builder, "adapter_of", watched_adapter),
        patch.object(builder, "assemble", watched_assembly),
    ):
        yield counted


# -- what is said ------------------------------------------------------------------------------------------------------

GROUPS = {"UNet": "unet", "text encoder": "text encoder", "embedding": "embedding", "word": "embedding"}


@dataclass(frozen=True)
class Claim:
    """A kind of sentence.

    Attributes:
        name: what `check` is asked for.
        pattern: finds the sentence in a line.
        wrong: (match, what was counted) → what is not so, or "".
    """

    name: str
    pattern: re.Pattern[str]
    wrong: Callable[[re.Match[str], Counted], str]


def near(said: float, real: float) -> bool:
    """Whether a number is the other one to the three digits that are said."""
    return math.isclose(said, real, rel_tol=6e-3, abs_tol=1e-12)


def differs(what: str, said: float, real: float) -> str:
    """A complaint, or ""."""
    return "" if near(said, real) else f"{what}: said {said:g}, counted {real:g}"


def check(counted: Counted, lines: Iterable[str], about: Mapping[str, str] | None = None, expect: Iterable[str] = ()) -> None:
    """Compare every sentence of `lines` that a claim knows, and the metadata of a file, with what was counted.

    Args:
        expect: names of claims of which a sentence must have come.
    """
    wrong, known = [], set()
    for line in lines:
        for claim in CLAIMS:
            for match in claim.pattern.finditer(line):
                known.add(claim.name)
                if fault := claim.wrong(match, counted):
                    wrong.append(f"{fault} ({line})")
    wrong += metadata_faults(about, counted) if about else []
    assert not wrong, "\n".join(wrong)
    assert set(expect) <= known, f"nothing was said of {sorted(set(expect) - known)}"


def metadata_faults(about: Mapping[str, str], counted: Counted) -> list[str]:
    """What a file's metadata say that was not so."""
    faults = []
    for key, group in (("ss_unet_lr", "unet"), ("ss_text_encoder_lr", "text encoder")):
        if key in about:
            said = 0.0 if about[key] == "None" else float(about[key])
            faults.append(counted.rate_fault(key, said, group))
    if "ss_steps" in about:
        faults.append(differs("ss_steps", float(about["ss_steps"]), counted.first + counted.steps))
    alphas = {alpha for of_part in counted.alphas.values() for alpha in of_part}
    if "ss_network_alpha" in about and len(alphas) == 1:
        faults.append(differs("ss_network_alpha", float(about["ss_network_alpha"]), next(iter(alphas))))
    if "finetune_rates" in about and not counted.resumed:
        real = {group: highest for group in (counted.rates or [{}])[0] if (highest := counted.highest(group))}
        faults += [
            differs(f"finetune_rates of {group}", rate, real.get(group, 0.0)) for group, rate in json.loads(about["finetune_rates"]).items()
        ]
        faults += [f"finetune_rates tells nothing of {group}" for group in real.keys() - json.loads(about["finetune_rates"]).keys()]
    faults += _of_images(about, counted) if "ss_bucket_info" in about else []
    if "finetune_settings" in about and json.loads(about["finetune_settings"])["training"]["steps"] is None:
        faults.append("finetune_settings: the steps are not definite")
    return [fault for fault in faults if fault]


def _of_images(about: Mapping[str, str], counted: Counted) -> list[str]:
    """What kohya's metadata say of the images and how they came; of a run that did not come round yet nothing can be held against it."""
    faults = [differs("ss_num_batches_per_epoch", float(about["ss_num_batches_per_epoch"]), counted.epoch_steps)]
    faults += [differs("ss_seed", float(about["ss_seed"]), counted.seed)]
    epochs = math.ceil((counted.first + counted.steps) * counted.accumulation / counted.epoch_steps)
    faults += [differs("ss_epoch", float(about["ss_epoch"]), epochs)]
    if about["ss_optimizer"] not in counted.optimizer and counted.optimizer != "perparameter":
        faults.append(f"ss_optimizer: said {about['ss_optimizer']}, moved by {counted.optimizer}")
    if counted.first or len(counted.shown) < counted.epoch_steps:
        return faults
    first = [shown for batch in counted.shown[: counted.epoch_steps] for shown in batch if not shown.prior]
    faults += [differs("ss_num_train_images", float(about["ss_num_train_images"]), len(first))]
    buckets = {tuple(each["resolution"]): each["count"] for each in json.loads(about["ss_bucket_info"])["buckets"].values()}
    folders = Counter(str(PurePosixPath(name).parent) for name in {shown.name for shown in first})
    stated = {name: each["img_count"] for name, each in json.loads(about["ss_dataset_dirs"]).items()}
    if buckets != counted.sizes:
        faults.append(f"ss_bucket_info: said {buckets}, came {counted.sizes}")
    if set(folders) != {"."} and stated != folders:
        faults.append(f"ss_dataset_dirs: said {stated}, came {folders}")
    tags = {tag for folder in json.loads(about.get("ss_tag_frequency", "{}")).values() for tag in folder}
    came = {tag.strip() for shown in first for tag in shown.caption.split(",") if tag.strip()}
    if json.loads(about["finetune_settings"])["method"] in WORD_METHODS:
        return faults  # templates: not all of them have to come
    return [*faults, *(f"ss_tag_frequency: {tag!r} never came" for tag in tags - came)]


CLAIMS: list[Claim] = []


def claim(name: str, pattern: str) -> Callable[[Callable[[re.Match[str], Counted], str]], Callable[[re.Match[str], Counted], str]]:
    """Register a comparison."""

    def register(wrong: Callable[[re.Match[str], Counted], str]) -> Callable[[re.Match[str], Counted], str]:
        CLAIMS.append(Claim(name, re.compile(pattern), wrong))
        return wrong

    return register


@claim(
    "views",
    r"^(?P<steps>\d+) (?P<further>further )?steps? of (?:up to )?(?P<pictures>\d+) images?: "
    r"(?:each of the (?P<count>\d+) is|it is) seen (?P<least>\d+)(?: to (?P<most>\d+))? times?",
)
def _views(said: re.Match[str], counted: Counted) -> str:
    if counted.first and not said["further"]:
        return ""  # of the whole run, of which a part was counted
    seen = [*counted.views.values(), *[0] * (int(said["count"] or 1) - len(counted.views))]
    faults = [
        differs("steps", int(said["steps"]), counted.steps),
        differs("images a step", int(said["pictures"]), counted.largest_batch * counted.accumulation),
        differs("seen at least", int(said["least"]), min(seen)),
        differs("seen at most", int(said["most"] or said["least"]), max(seen)),
    ]
    return "; ".join(fault for fault in faults if fault)


@claim("rates", r"^Learning rates at their highest: (?P<rates>.*)\.$")
def _highest_rates(said: re.Match[str], counted: Counted) -> str:
    pairs = dict(part.rsplit(" ", 1) for part in said["rates"].split(", "))
    faults = [counted.rate_fault(f"rate of the {name}", float(rate), GROUPS[name]) for name, rate in pairs.items()]
    unsaid = [name for name, group in GROUPS.items() if name != "word" and counted.highest(group) > 0 and name not in pairs]
    return "; ".join([*(fault for fault in faults if fault), *(f"the rate of the {name} is not said" for name in unsaid)])


PARTS = {"UNet": "unet", "text encoder": "text"}


@claim(
    "scale rates",
    r"^Patches of the (?P<part>[\w ]+) that count (?P<scale>\S+) learn at up to (?P<rate>\S+), those that count (?P<most>\S+) at up to (?P<lead>\S+)\.$",
)
def _scale_rates(said: re.Match[str], counted: Counted) -> str:
    paces = {scale: pace for (part, scale), pace in counted.paces.items() if part == PARTS[said["part"]]}
    real = {place: next((pace for scale, pace in paces.items() if near(float(said[place]), scale)), 0.0) for place in ("scale", "most")}
    faults = [
        "" if counted.resumed else differs("rate of those that count less", float(said["rate"]), real["scale"]),
        "" if counted.resumed else differs("rate of those that count most", float(said["lead"]), real["most"]),
        differs("the most that a patch counts", float(said["most"]), max(paces)),
    ]
    return "; ".join(fault for fault in faults if fault)


@claim("one rate", r"^Patches of the (?P<part>[\w ]+) count (?P<most>\S+) to (?P<least>\S+) and have one rate")
def _one_rate(said: re.Match[str], counted: Counted) -> str:
    paces = {scale: pace for (part, scale), pace in counted.paces.items() if part == PARTS[said["part"]]}
    faults = [differs("most", float(said["most"]), max(paces)), differs("least", float(said["least"]), min(paces))]
    return "; ".join([*(fault for fault in faults if fault), *(["they have several rates"] if len(set(paces.values())) > 1 else [])])


@claim("further steps", r"^The (?P<count>\d+) further steps?, (?P<first>\d+) to (?P<last>\d+), have a schedule of their own")
def _further_steps(said: re.Match[str], counted: Counted) -> str:
    faults = [differs("further steps", int(said["count"]), counted.steps), differs("the first", int(said["first"]), counted.first + 1)]
    return "; ".join(fault for fault in faults if fault)


@claim(
    "further rates",
    r"^The rate of the (?P<group>[\w ]+) was (?P<ended>\S+) in step (?P<done>\d+), is (?P<begins>\S+) in step (?P<first>\d+), and at most (?P<highest>\S+)\.$",
)
def _further_rates(said: re.Match[str], counted: Counted) -> str:
    group = GROUPS[said["group"]]
    faults = [
        differs("the first rate", float(said["begins"]), counted.rates[0].get(group, 0.0)),
        differs("the highest rate", float(said["highest"]), counted.highest(group)),
        differs("the rate before", float(said["ended"]), counted.ended.get(group, float(said["ended"]))),
    ]
    return "; ".join(fault for fault in faults if fault)


@claim("sizes", r"^Sizes in training: (?P<sizes>.*) px\.$")
def _sizes(said: re.Match[str], counted: Counted) -> str:
    stated = {(int(w), int(h)): int(count) for count, w, h in re.findall(r"(\d+) at (\d+)×(\d+)", said["sizes"])}
    more = {size: count for size, count in counted.sizes.items() if count > stated.get(size, 0)}
    unseen = sum(stated.values()) - sum(counted.sizes.values())
    whole = not counted.first and len(counted.shown) >= counted.epoch_steps
    return f"sizes: said {stated}, came {counted.sizes}" if more or (whole and unseen) else ""


@claim("trigger in front", r'^The trigger word "(?P<word>.+)" is put in front of (?P<count>\d+) of (?P<all>\d+) captions\.$')
def _led(said: re.Match[str], counted: Counted) -> str:
    led = counted.led_by(said["word"])
    if led > int(said["count"]):
        return differs("captions with the trigger in front", int(said["count"]), led)
    return differs("captions", int(said["all"]), len(counted.views)) if len(counted.views) > int(said["all"]) else ""


@claim("class images", r"^The batches hold (?P<used>\d+) of \d+ class images")
def _class_images(said: re.Match[str], counted: Counted) -> str:
    return "" if counted.first else differs("class images in the batches", int(said["used"]), counted.class_images)


@claim("validation images", r"^Validation images, not trained on: (?P<names>.*)\.$")
def _validation_images(said: re.Match[str], counted: Counted) -> str:
    return "; ".join(f"{name} is trained on" for name in said["names"].split(", ") if counted.views[name])


@claim("batch", r"^The batch size is (?P<batch>\d+), and some sizes have fewer images")
def _batch(said: re.Match[str], counted: Counted) -> str:
    full = {
        shown.size for batch in counted.shown for shown in batch if len([each for each in batch if not each.prior]) >= int(said["batch"])
    }
    return "every batch is full" if full == set(counted.sizes) else ""


@claim("subjects", r"^Subjects, each called by its own words, with their images: (?P<subjects>.*)\.$")
def _subjects(said: re.Match[str], counted: Counted) -> str:
    faults = []
    for words, count in re.findall(r'"([^"]+)" \((\d+)\)', said["subjects"]):
        called = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)|^{re.escape(words.split()[0])},")
        names = {shown.name for batch in counted.shown for shown in batch if not shown.prior and called.search(shown.caption)}
        faults.append(differs(f"images of {words}", int(count), len(names)) if len(names) > int(count) else "")
    return "; ".join(fault for fault in faults if fault)


@claim("tokens of the word", r"^In a prompt, \S+ takes (?P<count>\d+) of the 75 tokens\.$")
def _tokens(said: re.Match[str], counted: Counted) -> str:
    return differs("tokens of the word", int(said["count"]), counted.vectors)


@claim("resuming", r"^Resuming at step (?P<step>\d+) of (?P<total>\d+)\.$")
def _resuming(said: re.Match[str], counted: Counted) -> str:
    faults = [differs("the step it resumes at", int(said["step"]), counted.first)]
    faults += [differs("steps in all", int(said["total"]), counted.first + counted.steps)]
    return "; ".join(fault for fault in faults if fault)
