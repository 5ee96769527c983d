"""Measurements during a training."""
