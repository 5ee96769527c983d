"""Stable Diffusion 1.5 as we use it: layout, names, the borrowed view, prompts and sampling."""
