"""The form in which every benchmark prints its measurements: one JSON object a line."""

import json
from typing import Any


def print_row(name: str, value: float, unit: str, *, peer: str | None = None, peer_value: float | None = None, **more: Any) -> None:
    """One row: `name`, `value`, `unit`, and the peer of the same run with `ratio` = value / peer_value where there is one."""
    ratio = value / peer_value if peer_value else None
    row = {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio, **more}
    print(json.dumps(row), flush=True)
