"""Sequence models that are recurrences, trained in parallel over time."""
