"""What tells the four kinds of variations apart stands in one file."""

import re
from pathlib import Path

import difana

KINDS = "ShiftedEvents|WeightVariation|Normalisation|Transformation"


def test_no_room_asks_for_the_kind_of_a_variation():
    root = Path(difana.__file__).parent
    asking = re.compile(
        rf"isinstance\([^)]*({KINDS})|case ({KINDS})\(|type\(\w*\) (is|==) ({KINDS})"
    )
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if asking.search(path.read_text()) and path.name != "samples.py"
    }
    assert found == set()
