"""The command line: parses, calls, prints. One file a group of commands; `app` binds them to their names."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `mkmsr` with the given arguments (the process's own by default) and exit with its status."""
    gc.set_threshold(100_000)  # what imports make stays: looking through it at the usual 700 takes a tenth of the start
    from mkmsr.cli.app import run

    status = run(sys.argv[1:] if arguments is None else arguments)
    gc.freeze()  # the process ends and frees all: looking through it once more takes a fifth of a short command
    sys.exit(status)
