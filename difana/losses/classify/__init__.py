"""Losses that tell signal from background."""
