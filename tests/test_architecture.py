"""The picture of docs/architecture.md is the one that its script draws from the imports."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "docs" / "draw_architecture.py"


def test_the_picture_is_true() -> None:
    drawn = runpy.run_path(str(SCRIPT))
    assert drawn["PICTURE"].read_text() == drawn["draw"](), "rooms, files or imports have changed: python docs/draw_architecture.py"
