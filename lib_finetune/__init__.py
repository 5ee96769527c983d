"""Finetune: trains LoRA, DreamBooth and Textual Inversion for Stable Diffusion 1.5 on the checkpoint that is already loaded."""

__version__ = "0.1.0"
