"""Writes ``sd15_checkpoint_keys.json`` anew: names and shapes of the 1130 weights of a Stable Diffusion 1.5 checkpoint.

    PYTHON_OF_THE_WEBUI tests/golden/make_sd15_keys.py FOLDER_OF_THE_WEBUI [--out FILE]

It builds what the WebUI's ``configs/v1-inference.yaml`` names, on the meta device, so neither weights nor a network are needed. The Python has
to be that of the WebUI's environment, whose repositories (``ldm``) and libraries are used. Buffers (``position_ids``, the noise schedule)
are left out: real files may hold them, none has to.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("sd15_checkpoint_keys.json")
#: The text encoder of CLIP ViT-L/14; the yaml names it by its class only, which would download it.
CLIP = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}


def shapes(webui: Path) -> dict[str, list[int]]:
    """Name in the checkpoint → shape, sorted by name."""
    sys.path.insert(0, str(webui / "repositories" / "stable-diffusion-stability-ai"))
    import torch
    from ldm.util import instantiate_from_config
    from omegaconf import OmegaConf
    from transformers import CLIPTextConfig, CLIPTextModel

    parts = OmegaConf.load(webui / "configs" / "v1-inference.yaml").model.params
    parts.unet_config.params.use_checkpoint = False
    with torch.device("meta"):
        modules: dict[str, Any] = {
            "model.diffusion_model": instantiate_from_config(parts.unet_config),
            "first_stage_model": instantiate_from_config(parts.first_stage_config),
            "cond_stage_model.transformer": CLIPTextModel(CLIPTextConfig(**CLIP)),
        }
    named = {f"{prefix}.{name}": list(value.shape) for prefix, module in modules.items() for name, value in module.named_parameters()}
    return dict(sorted(named.items()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the names and shapes of SD1.5's weights anew.")
    parser.add_argument("webui", type=Path, metavar="FOLDER", help="a checkout of the WebUI with its repositories")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE")
    options = parser.parse_args()
    keys = shapes(options.webui)
    options.out.write_text(written(keys), encoding="utf-8")
    print(f"{options.out}: {len(keys)} weights")


def written(keys: dict[str, list[int]]) -> str:
    """JSON, one weight a line."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(shape)}" for name, shape in keys.items()) + "\n}\n"


if __name__ == "__main__":
    main()
