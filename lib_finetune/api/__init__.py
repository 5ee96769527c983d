"""The HTTP API under /finetune/v1/, one file per resource."""
