"""What a file of weights is for, told by the names of its tensors, and what is said where another one is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lib_finetune.model.families import Family, Shapes, as_words, family


@dataclass(frozen=True)
class Kind:
    """What a file is for.

    Attributes:
        phrase: "a LoRA"; "" where nothing tells.
        use: where such a file goes or what to do, or "".
        tells: names of which one is enough to know it; parts of a checkpoint are told by which of them are there.
    """

    phrase: str
    use: str = ""
    tells: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        family: None where nothing tells that it is another than SD1.x.
        example: the names of a few of its tensors.
    """

    kind: Kind
    family: Family | None
    example: str

    @property
    def phrase(self) -> str:
        """ "is a LoRA of SDXL"."""
        if not self.kind.phrase:
            return f"holds {self.example}, which belong to no kind of file that is known here"
        return f"is {self.kind.phrase} of {self.family.name}" if self.family else f"is {self.kind.phrase}"


def _kind(phrase: str, use: str, *tells: str) -> Kind:
    return Kind(phrase, use, re.compile("|".join(tells), re.MULTILINE))


_FULL = "Load the full version of this model."
_CONTROL = "Such files go to models/ControlNet."
_MOTION = "Such files belong to AnimateDiff."
CHECKPOINT = Kind("a checkpoint")
UNKNOWN = Kind("")
NOTHING = Kind("a file without tensors that have names", "Download it again.")
_WITHOUT_VAE = Kind("a checkpoint without its VAE", "Load the full version of this model, or bake a VAE in with a merger.")
_WITHOUT_TEXT = Kind("a checkpoint without its text encoder", _FULL)
_AVERAGE_ALONE = Kind(
    "a checkpoint of averaged weights (EMA) alone",
    "Load the version of this model with plain weights, or convert it so that the averaged weights take their place.",
)
_ONE_FILE = Kind(
    "a whole model in one file, but under diffusers' names", "Convert it to the original layout, or load the version of this model in it."
)
_NETWORK = Kind("a diffusion network alone, without VAE and text encoder")
LORA = _kind(
    "a LoRA", "A LoRA is not a checkpoint: use it in a prompt, or name it under network.start to train it further.",
    r"^(lora|lycoris|oft|boft|loha|lokr|glora|ia3)_(unet|te\d?|transformer|prior|text_encoder|mid|down|up|blocks|double|single)_",
    r"_lora_(up|down|mid|A|B|magnitude_vector|embedding_A|embedding_B|linear_layer)(_|$)", r"_(hada|lokr)_[wt]\d(_|$)",
    r"_(oft_(blocks|diag|R)|boft_[RS]|vera_lambda)(_|$)", r"_(dora_scale|set_weight|on_input)$", r"^bundle_emb_",
)  # fmt: skip
EMBEDDING = _kind(
    "an embedding", "Embeddings go to embeddings/ and are called by their file's name in a prompt; embedding.init takes one to begin with.",
    r"^string_to_param_", r"^emb_params$", r"^clip_[gl]$", r"^t5xxl$", r"^<[^>\n]*>$",
)  # fmt: skip
_FIRST_LORA = _kind(
    "a list of patches of the first LoRA trainer (cloneofsimo's)", "Convert it to kohya's form, or name another file.",
    r"^((unet|text_encoder):)?\d+:(up|down)$",
)  # fmt: skip
_UNET_ALONE = _kind(
    "a UNet alone, without VAE and text encoder", _FULL, r"^(unet_)?time_embedding_linear_1_",
    r"^(unet_|diffusion_model_)?(down_blocks_\d_(resnets|attentions)|input_blocks_\d+_\d)_",
)  # fmt: skip
_VAE = _kind(
    "a VAE", "Such files go to models/VAE and are chosen in the WebUI's settings.",
    r"^(vae_)?(encoder|decoder)_(down|up|mid|conv_in|layers_\d)", r"^taesd_", r"^(post_)?quant_conv_",
)  # fmt: skip
_TEXT = _kind(
    "a text encoder", _FULL, r"(^|_)text_model_(encoder_layers|embeddings)_", r"^encoder_block_0_layer_0_SelfAttention", r"^shared_weight$",
    r"^(model_)?transformer_resblocks_0_", r"^(text_)?encoder_layers_0_(self_attn|mlp)",
)  # fmt: skip
_FIRST = (
    _kind(
        "a ControlNet", _CONTROL, r"^control_model_", r"(^|_)input_hint_block_", r"^lllite_", r"^lora_controlnet", r"(^|_)zero_convs_",
        r"^(controlnet_)?controlnet_(cond_embedding|down_blocks|mid_block|blocks|x_embedder)",
    ),
    _kind("a T2I adapter", _CONTROL, r"^adapter_(body|conv_in)_", r"^(model_)?body_\d+_(block1|in_conv|resnets)_"),
    _kind("an IP-Adapter", _CONTROL, r"^(image_proj|ip_adapter)_"),
    _kind("a LoRA of a motion module (AnimateDiff)", _MOTION, r"motion_modules_.*_lora_"),
    _kind("a motion module (AnimateDiff)", _MOTION, r"(^|_)motion_modules_\d"),
    LORA,
    _FIRST_LORA,
    _kind("a hypernetwork", "Such files go to models/hypernetworks.", r"^\d+_[01]_linear"),
    EMBEDDING,
)  # fmt: skip
"""Asked before the parts of a checkpoint, in this order."""
_LATER = (
    _kind("a safety checker", "", r"^concept_embeds$", r"^special_care_embeds"),
    _kind(
        "an image encoder (CLIP vision)", "Such files belong to ControlNet's preprocessors.", r"(^|_)vision_model_",
        r"^visual_(transformer_resblocks|conv1)_",
    ),
    _kind(
        "a small VAE for previews (TAESD)", "Such files go to models/VAE-approx.", r"^taesd_", r"^[13]_conv_0_weight$",
        r"^(encoder|decoder)_layers_\d+_(weight|conv)",
    ),
    _UNET_ALONE,
    _VAE,
    _TEXT,
    _kind("a language model", "", r"^model_layers_0_(self_attn|mlp)_", r"^model_embed_tokens_"),
    _kind("a restorer of faces", "Such files belong to the WebUI's face restoration.", r"^stylegan_decoder_", r"^(idx_pred_layer|fuse_convs_dict)_"),
    _kind("a detector or segmenter", "Such files belong to other extensions.", r"^model_\d+_(conv|bn|cv\d)_", r"^(image_encoder_patch|mask_decoder_)"),
    _kind("a captioner", "Such files belong to the WebUI's Interrogate.", r"^(visual_encoder_blocks|text_decoder_bert)_"),
    _kind(
        "an upscaler", "Such files go to models/ESRGAN or the folder of their kind.", r"^model_1_sub_0", r"^RRDB_trunk_", r"^HRconv_",
        r"^(conv_first_|body_\d+_rdb1|conv_up1_|upconv1_)", r"^layers_0_residual_group_", r"^body_1_weight$", r"^conv_1_sk_",
    ),
    _kind("a saved state of an optimizer", "Name the model beside it.", r"_exp_avg(_sq)?$", r"^optimizer_", r"^state_\d+_"),
)  # fmt: skip
"""Asked after them."""
_PARTS = {
    "unet": r"^model_diffusion_model_", "average": r"^model_ema_(?!decay|num_updates)", "vae": r"^(first_stage_model|vae)_",
    "text": r"^(cond_stage_model|conditioner|text_encoders)_",
}  # fmt: skip
"""Part of a checkpoint → how its names begin."""
_QUANTISED = re.compile(
    r"(^|\.)(scaled_fp8|scale_weight|weight_scale(_2)?|scale_input|input_scale|comfy_quant|absmax|nested_absmax|quant_map|quant_state\..*"
    r"|SCB|qweight|qzeros|weight_format)$"
)


def identify(shapes: Shapes) -> Contents:
    """Kind and family of what these tensors are."""
    words, of_family = as_words(shapes), family(shapes)
    kind = NOTHING
    if shapes:
        kind = _told_by_name(_FIRST, words) or _by_parts(words) or _told_by_name(_LATER, words) or _otherwise(shapes, of_family)
    return Contents(kind, of_family, ", ".join(list(shapes)[:2]) + ", …" * (len(shapes) > 2))


def _told_by_name(kinds: Iterable[Kind], words: str) -> Kind | None:
    return next((kind for kind in kinds if kind.tells and kind.tells.search(words)), None)


def _by_parts(words: str) -> Kind | None:
    present = {part for part, start in _PARTS.items() if re.search(start, words, re.MULTILINE)}
    if "unet" in present:
        missing = {"vae", "text"} - present
        return {0: CHECKPOINT, 2: _UNET_ALONE}.get(len(missing), _WITHOUT_VAE if "vae" in missing else _WITHOUT_TEXT)
    if present and re.search(r"^unet_", words, re.MULTILINE):
        return _ONE_FILE
    if "average" in present:
        return _AVERAGE_ALONE
    return {frozenset({"vae"}): _VAE, frozenset({"text"}): _TEXT}.get(frozenset(present))


def _otherwise(shapes: Shapes, of_family: Family | None) -> Kind:
    if of_family:
        return _NETWORK
    if _are_pairs(shapes):
        return _FIRST_LORA
    name, shape = next(iter(shapes.items()))
    return EMBEDDING if len(shapes) == 1 and 0 < len(shape) < 3 and not name.endswith((".weight", ".bias")) else UNKNOWN


def _are_pairs(shapes: Shapes) -> bool:
    """Whether they are numbered alone, and each two of them, up and down, share their rank."""
    sides = list(shapes.values())
    numbered = len(sides) > 1 and len(sides) % 2 == 0 and all(name.isdecimal() for name in shapes)
    return numbered and all(len(up) > 1 and down[:1] == up[1:2] for up, down in zip(sides[::2], sides[1::2], strict=True))


def quantised(names: Iterable[str]) -> str | None:
    """The name of a part that says that weights are stored in a packed or scaled form, which has to be undone first."""
    return next((name for name in names if _QUANTISED.search(name)), None)


_TRAINED = "Finetune trains Stable Diffusion 1.x (1.4, 1.5 and those made from them): name such a checkpoint"
_WANTED = {
    "checkpoint": (CHECKPOINT, f"{_TRAINED}, one file with UNet, VAE and text encoder."),
    "LoRA": (LORA, "Name a LoRA of Stable Diffusion 1.x in kohya's form, as the WebUI reads it."),
    "embedding": (EMBEDDING, "Name an embedding of Stable Diffusion 1.x, as .safetensors, .pt, .bin or the WebUI's image."),
}


def fault(contents: Contents, kind_name: str) -> str | None:
    """Why a file is not the one that is wanted, and what to do, for behind the file's name; None where it is.

    Args:
        kind_name: "checkpoint", "LoRA" or "embedding".
    """
    kind, need = _WANTED[kind_name]
    if contents.kind is kind and contents.family is None:
        return None
    use = contents.kind.use if contents.kind is not kind else ""
    return f"is no {kind_name} of Stable Diffusion 1.x: it {contents.phrase}. {use}{' ' * bool(use)}{need}"
