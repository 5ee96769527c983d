"""The settings tree. Defaults suit 4 to 20 images of one subject; sources are named where a number is a matter of experience."""

from __future__ import annotations

from dataclasses import dataclass, field

from lib_finetune.config.fields import setting
from lib_finetune.config.optimizer_demands import demands_in_words

METHODS = ("lora", "dreambooth", "textual_inversion", "pivotal_tuning")
WORD_METHODS = ("textual_inversion", "pivotal_tuning")
"""They give the file's name a meaning as a word of the prompt."""
PATCH_METHODS = ("lora", "pivotal_tuning")
"""They train a network beside the model."""
ADAPTERS = ("lora", "loha", "lokr")
OPTIMIZERS = ("auto", "adamw", "adamw8bit", "adafactor", "lion", "prodigy")
SCHEDULES = ("constant", "linear", "cosine", "cosine_with_restarts", "polynomial")
FURTHER_WAYS = ("new", "end")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
PRIORS = ("auto", "off", "pictures", "prediction")
FILE_PRECISIONS = ("fp16", "bf16", "fp32")
STATES = ("auto", "none", "last", "all")
KINDS = ("", "person", "animal", "thing", "style")
DEFAULT_TEMPLATE = "a photo of {trigger} {class}"


@dataclass(frozen=True)
class Data:
    """The images and how they are read."""

    images: str = setting("", "Training images", "Folder with the images; subfolders count too.")
    kind: str = setting(
        "",
        "What they show",
        "Person, animal, thing or style; words the captions that are made for images without a text file. Empty: any subject.",
        choices=KINDS,
    )
    drawn: bool | None = setting(
        None,
        "Drawn",
        "Whether the person is drawn, painted or rendered; captions then say so. Automatic: a photo.",
        when=lambda s: s.data.kind == "person",
    )
    trigger: str = setting("", "Trigger word", "The new word that will call the subject; a rare one such as zxq works best.")
    class_word: str = setting("", "Class word", "What the subject is in general: woman, dog, car. May be empty.")
    template: str = setting(
        DEFAULT_TEMPLATE,
        "Caption template",
        "Caption of an image without a text file; {trigger} and {class} are filled in. With [filewords], where the image's own caption "
        "comes in, it is for all images. While it is the default, a style and a drawn person get one of their own.",
    )
    shuffle_tags: bool = setting(False, "Shuffle tags", "Put the comma-separated parts of a caption in a new order each time.")
    keep_tags: int = setting(
        1,
        "Keep first tags",
        "Number of leading tags that stay in front and are never dropped.",
        unit="tags",
        low=0,
        high=75,
        when=lambda s: s.data.shuffle_tags or s.data.tag_dropout > 0,
    )
    tag_dropout: float = setting(0.0, "Tag dropout", "Chance of leaving out each tag that is not kept.", unit="share", low=0.0, high=0.9)
    caption_dropout: float = setting(
        0.05,
        "Caption dropout",
        "Chance of training on an image with an empty caption; keeps prompt guidance working.",
        unit="share",
        low=0.0,
        high=0.9,
        source="LyCORIS example configurations: 0.05",
    )
    resolution: int = setting(512, "Resolution", "Side of the square whose area all images are brought to.", unit="px", low=64, high=2048)
    buckets: bool = setting(True, "Aspect-ratio buckets", "Keep each image's shape (in steps of 64 px) instead of cutting all to a square.")
    crop: str = setting(
        "centre",
        "Crop",
        "Which part of an image is kept when it does not fit its bucket. focal: the most detailed part; face: the largest face that "
        "the WebUI detects.",
        choices=("centre", "random", "focal", "face"),
    )
    flip: bool = setting(False, "Mirror", "Also train on mirrored images. Leave off for faces and anything with text.")
    masks: str = setting(
        "files",
        "Masks",
        "If an image has a mask (cat_mask.png, or mask/cat.png; white is the subject), the rest of the image counts less. alpha: "
        "transparency is used as a mask too.",
        choices=("files", "alpha", "off"),
    )
    max_tokens: int = setting(
        225,
        "Caption length",
        "Tokens of a caption that are read; the rest is cut off, with a warning.",
        unit="tokens",
        choices=(75, 150, 225),
    )
    class_images: str = setting(
        "", "Class images", "Folder with images of the class in general, so that the model does not forget it (prior preservation)."
    )
    class_count: int = setting(
        0,
        "Class images to make",
        "Made with the loaded model before training, kept and used again; with a folder of your own, none are made.",
        unit="images",
        low=0,
        high=10_000,
        source="Ruiz et al., DreamBooth, arXiv 2208.12242: 200",
    )
    held_out: int = setting(
        0,
        "Validation images",
        "Number of images kept out of training. The loss on them is measured now and then, and the state with the lowest one is saved. 0 is off.",
        unit="images",
        low=0,
        high=100,
    )
    disk_cache: bool = setting(True, "Keep encoded images", "Store the encoded images on disk; the next run then starts at once.")


@dataclass(frozen=True)
class Network:
    """The small network that is trained beside the model."""

    adapter: str = setting("lora", "Kind", "LoRA suits most; LoHa and LoKr pack more change into small files.", choices=ADAPTERS)
    rank: int = setting(
        16, "Rank", "Size of the patches; the file grows with it.", unit="rank", low=1, high=256, source="peers: 16 for a subject"
    )
    alpha: float = setting(
        8.0, "Alpha", "Strength of the patches against the rank; the automatic learning rate follows it.", low=0.01, high=512.0
    )
    conv_rank: int = setting(
        0, "Convolution rank", "Patch the 3×3 convolutions too (LoCon) with this rank; 0 leaves them.", unit="rank", low=0, high=256
    )
    conv_alpha: float = setting(
        4.0, "Convolution alpha", "Alpha of the convolutions' patches.", low=0.01, high=512.0, when=lambda s: s.network.conv_rank > 0
    )
    dropout: float = setting(0.0, "Dropout", "Chance of leaving out each input of a patch while training.", unit="share", low=0.0, high=0.9)
    factor: int = setting(
        8,
        "Kronecker factor",
        "How LoKr splits a weight; larger factors give smaller files.",
        low=2,
        high=64,
        when=lambda s: s.network.adapter == "lokr",
    )
    targets: str = setting(
        "all",
        "Layers",
        "Which layers of the UNet are patched: attention with feed-forward and projections, or attention only.",
        choices=("all", "attention"),
    )
    text_encoder: bool = setting(
        True,
        "Train the text encoder",
        # measured: its forward pass has 13 GFLOP, a step of the UNet's patches at 512 px 1710 (torch.utils.flop_counter).
        "Patch the text encoder too: better likeness, a little slower.",
        source="Hugging Face DreamBooth blog",
    )
    begin: float = setting(
        0.0,
        "Patches learn from",
        "Share of the steps in which the word learns alone; as much as the word's own share: one after the other.",
        unit="share",
        low=0.0,
        high=0.9,
        when=lambda s: s.method == "pivotal_tuning",
    )
    start: str = setting(
        "",
        "Begin with the file",
        "A LoRA file (.safetensors) that the patches begin with, of the same kind, rank and alpha; a word in it begins too. Empty: from nothing.",
        when=lambda s: s.method in PATCH_METHODS,
    )


def _tunes_all(settings: Settings) -> bool:
    return settings.method == "dreambooth"


@dataclass(frozen=True)
class Tuning:
    """The whole model of DreamBooth."""

    weights: str = setting(
        "auto",
        "Weights in training",
        "fp32 is exact, 4 bytes a weight (automatic where it fits); bf16, rounded at random, takes 2.",
        choices=("auto", "fp32", "bf16"),
        when=_tunes_all,
    )
    in_backward: str = setting(
        "auto",
        "Step in the backward pass",
        "Moves each weight as soon as its gradient is there: saves up to 3.7 GB; clipping is by layer then. Automatic: where memory is short.",
        choices=("auto", "on", "off"),
        when=_tunes_all,
    )
    host_weights: str = setting(
        "auto",
        "The WebUI's own model",
        "beside: stays on the GPU, and images during training come at once; exchange: lies in main memory meanwhile, "
        "which frees 2 GB, and changes places with what is trained for each image; the run says how long that takes. Automatic: exchange "
        "where it must be.",
        choices=("auto", "beside", "exchange"),
        when=_tunes_all,
    )
    text_encoder_until: float = setting(
        0.5,
        "Text encoder until",
        "Share of the steps in which the text encoder is trained too; 0 leaves it as it is and saves a fifth of the memory.",
        unit="share",
        low=0.0,
        high=1.0,
        when=_tunes_all,
        source="peers: 0.3 to 1",
    )
    format: str = setting(
        "safetensors",
        "File",
        "ckpt is for old tools; it takes as much memory as the file is large.",
        choices=("safetensors", "ckpt"),
        when=_tunes_all,
    )
    lora_rank: int = setting(
        0,
        "Also as a LoRA of rank",
        "Saves the difference to the base as a small LoRA too; 0 is off.",
        unit="rank",
        low=0,
        high=256,
        when=_tunes_all,
    )
    select: bool = setting(False, "Choose it afterwards", "Load the finished checkpoint into the WebUI.", when=_tunes_all)


def _teaches_word(settings: Settings) -> bool:
    return settings.method in WORD_METHODS


def _bundles_word(settings: Settings) -> bool:
    return settings.method == "pivotal_tuning" and settings.embedding.bundle


@dataclass(frozen=True)
class Embedding:
    """The new word of Textual Inversion and pivotal tuning."""

    vectors: int = setting(
        4,
        "Vectors",
        "How many tokens of a prompt the word takes; more hold more, and leave less room for the rest.",
        unit="tokens",
        low=1,
        high=74,
        when=_teaches_word,
    )
    init: str = setting(
        "",
        "Begin with",
        "Words whose meaning the vectors begin with (woman, glass vase), or an embedding file. Empty: the class word.",
        when=_teaches_word,
    )
    template: str = setting(
        "",
        "Templates",
        "subject, drawn, style, or a text file with a caption on each line, in which {trigger} is the word and [filewords] the image's own "
        "caption, which is replaced otherwise. Empty: captions beside the images, else those of what the images show.",
        when=_teaches_word,
    )
    rate: float | None = setting(
        None,
        "Learning rate of the vectors",
        "Automatic: follows the optimizer (AdamW: 5e-3, with patches 5e-4).",
        low=1e-9,
        high=10.0,
        when=_teaches_word,
        source="the WebUI's own default: 0.005; cloneofsimo's lora_pti: 5e-4",
    )
    keep_norm: bool = setting(
        False, "Keep the vectors' length", "Bring each vector back to its first length; gentler beside other words.", when=_teaches_word
    )
    until: float = setting(
        0.5,
        "Word learns until",
        "Share of the steps after which the vectors stay as they are and only the patches are trained; 1 trains both to the end.",
        unit="share",
        low=0.0,
        high=1.0,
        when=lambda s: s.method == "pivotal_tuning",
        source="train_text_encoder_ti_frac of diffusers' advanced training: 0.5",
    )
    bundle: bool = setting(
        True,
        "One file",
        "Put the word into the LoRA file, where the WebUI 1.10 reads it. Off: two files, the word as an embedding, for other programs.",
        when=lambda s: s.method == "pivotal_tuning",
    )
    format: str = setting(
        "safetensors",
        "File",
        "pt is for old tools.",
        choices=("safetensors", "pt"),
        when=lambda s: _teaches_word(s) and not _bundles_word(s),
    )


@dataclass(frozen=True)
class Optimizer:
    """How the patches are moved."""

    name: str = setting(
        "auto",
        "Optimizer",
        f"Automatic: AdamW, or for DreamBooth on GPUs with little memory Adafactor. {demands_in_words()}",
        choices=OPTIMIZERS,
    )
    unet_rate: float | None = setting(
        None,
        "Learning rate",
        "Of the UNet. Automatic: follows the optimizer and how much the patches count (AdamW: 1e-4 × rank / alpha; patches that alpha does "
        "not scale: 1e-4; DreamBooth: 2e-6).",
        low=1e-9,
        high=10.0,
        source="peers: 1e-4 to 2e-4 at alpha = rank/2",
    )
    text_encoder_rate: float | None = setting(
        None,
        "Text encoder's learning rate",
        "Automatic: half of the UNet's, or the same where the optimizer takes one rate for all.",
        low=1e-9,
        high=10.0,
        when=lambda s: s.tuning.text_encoder_until > 0 if s.method == "dreambooth" else s.network.text_encoder,
        source="peers: 5e-5 beside 1e-4",
    )
    weight_decay: float = setting(0.01, "Weight decay", "Pull of what is trained towards zero.", low=0.0, high=1.0)
    schedule: str = setting("cosine", "Schedule", "How the learning rate runs over the steps.", choices=SCHEDULES)
    warmup: float = setting(0.05, "Warm-up", "Share of the steps in which the rate rises from zero.", unit="share", low=0.0, high=0.9)
    restarts: int = setting(
        3, "Restarts", "Cosine waves.", unit="waves", low=1, high=100, when=lambda s: s.optimizer.schedule == "cosine_with_restarts"
    )
    power: float = setting(
        2.0, "Power", "Exponent of the polynomial schedule.", low=0.1, high=10.0, when=lambda s: s.optimizer.schedule == "polynomial"
    )
    further: str = setting(
        "new",
        "More steps",
        "How the rate runs when a training is resumed with more steps. new: a schedule of their own, which rises gently from where the rate "
        "ended; end: the last rate, unchanged.",
        choices=FURTHER_WAYS,
    )
    clip_norm: float = setting(1.0, "Gradient clipping", "Largest norm of the gradient; 0 is off.", low=0.0, high=1000.0)


@dataclass(frozen=True)
class Objective:
    """What is minimised."""

    loss: str = setting("mse", "Loss", "MSE suits most; Huber cares less about outliers.", choices=("mse", "huber"))
    huber_c: float = setting(
        0.1, "Huber threshold", "Errors above it count linearly.", low=1e-4, high=10.0, when=lambda s: s.objective.loss == "huber"
    )
    min_snr_gamma: float = setting(
        5.0,
        "Min-SNR gamma",
        "Balances the noise levels; 0 is off.",
        low=0.0,
        high=100.0,
        source="Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy, arXiv 2303.09556: 5",
    )
    noise_offset: float = setting(
        0.0, "Noise offset", "Lets the result be darker or brighter overall; 0.03 to 0.05 if at all.", low=0.0, high=1.0
    )
    unmasked_weight: float = setting(
        0.1,
        "Weight outside masks",
        "How much of an image counts that its mask leaves out, against what it shows.",
        unit="share",
        low=0.0,
        high=1.0,
        when=lambda s: s.data.masks != "off",
        source="OneTrainer: 0.1",
    )
    timestep_min: int = setting(0, "Lowest timestep", "First noise level that is trained.", low=0, high=999)
    timestep_max: int = setting(999, "Highest timestep", "Last noise level that is trained.", low=0, high=999)
    prior: str = setting(
        "auto",
        "Keep the class",
        # measured: CPU-seconds of a step: 1.6 to 1.75 times one without prior, 1.1 times one with class images (issue 18, point 12).
        "By class images, or by the model's own prediction for the class word (no images; a step takes 1.6 to 1.75 times as long as "
        "without, 1.1 times as long as with class images). "
        "Automatic: images where there are some; else, for DreamBooth with a class word, prediction.",
        choices=PRIORS,
        when=lambda s: s.method != "textual_inversion",
    )
    prior_weight: float = setting(
        1.0,
        "Class weight",
        "Weight of the class in the loss.",
        low=0.0,
        high=10.0,
        when=lambda s: s.objective.prior != "off",
        source="Ruiz et al., DreamBooth, arXiv 2208.12242: 1",
    )


@dataclass(frozen=True)
class Training:
    """The run."""

    steps: int | None = setting(
        None,
        "Steps",
        "Automatic: each image is seen 100 times, 500 to 3000 steps in all (DreamBooth: 400 to 2400); for an embedding 250 times, "
        "1000 to 4000 steps. Repeats weigh images against each other; the mean counts.",
        unit="steps",
        low=1,
        high=1_000_000,
        source="peers: 80 to 120 views an image",
    )
    batch: int = setting(
        1,
        "Batch size",
        "Images in one step, all of one size; where a size has fewer, they come in smaller batches. More need more memory.",
        unit="images",
        low=1,
        high=64,
    )
    accumulation: int = setting(1, "Accumulation", "Batches summed into one step; a larger batch without its memory.", low=1, high=256)
    seed: int = setting(42, "Seed", "The same seed and settings give the same file on the CPU.", low=0, high=2**31 - 1)
    precision: str = setting(
        "auto", "Precision", "Precision of the computation. Automatic: bf16 or fp16 on CUDA, fp32 on the CPU.", choices=PRECISIONS
    )
    gradient_checkpointing: bool = setting(
        False,
        "Gradient checkpointing",
        # measured: activations of an image of 512 px in 16 bit: 0.86 GiB, with it 0.14 (docs/measurements.md). The time was not measured.
        "Uses about 0.7 GB less at 512 px, and computes the forward pass twice.",
    )
    ema_decay: float = setting(
        0.0,
        "EMA decay",
        "Save the moving average of what is trained instead of their last state; 0 is off, 0.99 is usual.",
        low=0.0,
        high=0.99999,
    )
    validate_every: int = setting(
        100,
        "Measure every … steps",
        # measured: counted, evaluation.validation.DRAWS.
        "How often the loss on the validation images is measured; each time costs eight forward passes an image.",
        unit="steps",
        low=1,
        high=100_000,
        when=lambda s: s.data.held_out > 0,
    )
    clip_skip: int | None = setting(
        None, "Clip skip", "Automatic: as the WebUI is set. 1 reads the text encoder's last layer.", unit="layers", low=1, high=12
    )


@dataclass(frozen=True)
class Saving:
    """What is written, and when."""

    every_steps: int = setting(
        0, "Save every … steps", "Also save the file during training; 0 is off.", unit="steps", low=0, high=1_000_000
    )
    every_epochs: int = setting(0, "Save every … epochs", "An epoch shows every image once; 0 is off.", unit="epochs", low=0, high=100_000)
    keep: int = setting(
        0,
        "Keep",
        "How many of the files saved during training are kept; 0 keeps all.",
        unit="files",
        low=0,
        high=1000,
        when=lambda s: s.saving.every_steps > 0 or s.saving.every_epochs > 0,
    )
    precision: str = setting("fp16", "Precision of the file", "fp16 is half the size and loads everywhere.", choices=FILE_PRECISIONS)
    overwrite: bool = setting(False, "Overwrite", "Replace a file of the same name.")
    state_every: int = setting(
        200, "State every", "Steps between saved states; a killed run continues from the last one.", unit="steps", low=1, high=100_000
    )
    states: str = setting(
        "auto",
        "Keep states",
        "States that let you train more steps later: none, the last step's, or also one for each saved file (all). Automatic: the "
        "last; for DreamBooth, whose states take several GB each, none.",
        choices=STATES,
    )


WATCHES = ("auto", "on", "off")


def _shows(settings: Settings) -> bool:
    return settings.preview.enabled


@dataclass(frozen=True)
class Preview:
    """The images that show what was learned."""

    enabled: bool = setting(True, "Previews", "Make images with the file while it trains, and one for its card.")
    every: int | None = setting(
        None,
        "Preview every … steps",
        "Images of the base and of each snapshot, with the same prompts and seeds. Automatic: four times in a run; 0: only the card's image.",
        unit="steps",
        low=0,
        high=1_000_000,
        when=_shows,
    )
    prompts: str = setting(
        "",
        "Preview prompts",
        "Separate several prompts by ; or by lines; {trigger} and {class} are filled in, and the first prompt is the card's. Empty: "
        "the caption template.",
        when=_shows,
    )
    count: int = setting(1, "Images a prompt", "Of seeds that follow one another.", unit="images", low=1, high=16, when=_shows)
    seed: int = setting(42, "Preview seed", "The first seed of each prompt, the same at every step.", low=0, high=2**31 - 1, when=_shows)
    watch: str = setting(
        "auto",
        "Watch for side effects",
        "Each preview also paints the class and unrelated things and compares them with the base's images: curves of what changes, and a "
        "warning when colours shift. Automatic: for DreamBooth.",
        choices=WATCHES,
        when=_shows,
    )
    weight: float = setting(
        0.8, "Preferred weight", "Weight on the card and in the preview.", low=0.05, high=2.0, when=lambda s: s.method != "dreambooth"
    )
    steps: int = setting(20, "Preview steps", "Sampling steps.", unit="steps", low=1, high=150, when=lambda s: s.preview.enabled)


@dataclass(frozen=True)
class Settings:
    """Everything a run needs to know."""

    method: str = setting("lora", "Method", "What is trained.", choices=METHODS)
    name: str = setting("", "Name", "File name of the result; of a LoRA also the word in <lora:…>.")
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    tuning: Tuning = field(default_factory=Tuning)
    embedding: Embedding = field(default_factory=Embedding)
    optimizer: Optimizer = field(default_factory=Optimizer)
    objective: Objective = field(default_factory=Objective)
    training: Training = field(default_factory=Training)
    saving: Saving = field(default_factory=Saving)
    preview: Preview = field(default_factory=Preview)
