"""Settings become objects: the model view, batches, method, optimizer, and what the file will tell."""
