"""Formulas on tensors: no configuration, device choice or global random state."""
