"""The images: from a folder to batches of encoded images with their captions."""
