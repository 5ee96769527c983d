"""The training loop and what it stands on; knows no method, no settings and no tab."""
