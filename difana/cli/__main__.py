"""``python -m difana.cli``."""

from difana.cli.app import main

main(prog_name="difana")
