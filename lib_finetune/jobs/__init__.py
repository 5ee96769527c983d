"""The queue of trainings and what survives a restart."""
