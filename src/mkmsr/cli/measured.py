"""How `mkmsr bench` shows what it measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkmsr.cli.console import Terminal, text_table

__all__ = ["tell"]


def tell(screen: Terminal, result: Mapping[str, Any], out: Path | None) -> None:
    """Print a measurement, and write it to a file if one is named."""
    from mkmsr.runtime.files import atomic_write

    screen.document(result)
    plain = {key: value for key, value in result.items() if key != "case" and not isinstance(value, Mapping | list)}
    rows = [[_name(key), _shown(value)] for key, value in plain.items()]
    rows += [
        [f"{_name(key)}, smallest to largest", f"{_shown(each['min'])} to {_shown(each['max'])}"]
        for key, each in result["spread"].items()
    ]
    screen.show(text_table(f"bench {result['case']}", ["", ""], rows))
    for key, lines in result.items():
        if isinstance(lines, list) and lines:
            columns = [each for each in lines[0] if each != "spread"]
            cells = [[_shown(line[each]) for each in columns] for line in lines]
            screen.show(text_table(_name(key), [_name(each) for each in columns], cells, numbers_from=2))
    place = result["environment"]
    screen.say(f"{place['cpu']}, {place['cores']} cores, {place['load']} processes busy on average while measuring")
    if out is not None:
        atomic_write(out, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        screen.note(f"written: {out}")


def _name(key: str) -> str:
    return key.replace("_", " ")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
