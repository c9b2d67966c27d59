"""A process that makes chunks: ``python -m difana.data.generate.pythia._worker JOB``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from difana.data.generate.pythia.settings import Generation
from difana.data.generate.pythia.write import make_part


def main(text: str) -> None:
    """Make the chunks that a job names.

    Args:
        text: The job, JSON.
    """
    job = json.loads(text)
    own = job["generation"]
    generation = Generation(**{**own, "commands": tuple(own["commands"])})
    for number in job["chunks"]:
        make_part(generation, Path(job["folder"]), number, job["sizes"][number])


if __name__ == "__main__":
    main(sys.argv[1])
