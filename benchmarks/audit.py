"""Asks the advisory database of PyPI about every pinned version, by pip-audit.

    python benchmarks/audit.py

A known hole ends with status 1. Where the database cannot be reached, a line says so, and the status is 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Audit the versions of demo and tests."""
    pinned = ["--requirement", str(ROOT / "requirements-test.txt"), "--no-deps", "--disable-pip"]
    call = [sys.executable, "-m", "pip_audit", *pinned, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    try:
        is_safe, text = verdict(json.loads(done.stdout)["dependencies"])
    except ValueError:
        is_safe, text = True, f"audit skipped: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}"
    print(text)
    sys.exit(not is_safe)


def verdict(dependencies: list[dict[str, Any]]) -> tuple[bool, str]:
    """Return whether no dependency has a known hole, and what to say."""
    asked = [each for each in dependencies if "skip_reason" not in each]
    if not asked:
        return (
            True,
            f"audit skipped: the advisory database knows none of {len(dependencies)} packages, so it is not there",
        )
    holes = [
        f"{each['name']} {each['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none yet'}"
        for each in asked
        for hole in each["vulns"]
    ]
    unknown = f"; not in the database: {len(dependencies) - len(asked)}" if len(asked) < len(dependencies) else ""
    return not holes, "\n".join([*holes, f"audited {len(asked)} packages, {len(holes)} known holes{unknown}"])


if __name__ == "__main__":
    main()
