"""Boxes, crops and the augmentation: its parameters, and the host's pictures."""
