"""The command line."""

from difana.cli.app import main as main

__all__ = ["main"]
