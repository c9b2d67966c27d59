"""Losses that are figures of merit of a model."""
