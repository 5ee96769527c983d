"""The pictures: from a folder to batches of encoded pictures with their captions."""
