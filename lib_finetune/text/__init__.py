"""Tokens, prompts, and words that a training teaches."""
