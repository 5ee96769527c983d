"""Pictures: a folder in, batches of cached latents and captions out."""
