"""Pure functions on tensors and numbers: no files, no settings, no devices chosen, no global random state."""
