"""The loop and what it stands on: methods, adapters, optimizers."""
