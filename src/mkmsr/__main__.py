"""`python -m mkmsr` is the same as `mkmsr`."""

from __future__ import annotations

from mkmsr.cli import main

if __name__ == "__main__":
    main()
