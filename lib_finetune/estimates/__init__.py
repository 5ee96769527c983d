"""What a training will cost in memory, time and disk, and which form fits."""
