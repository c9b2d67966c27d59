"""Pseudo-experiments, and what is decided by them."""
