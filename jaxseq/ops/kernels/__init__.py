"""Pallas kernels; nothing else in the project knows Pallas."""
