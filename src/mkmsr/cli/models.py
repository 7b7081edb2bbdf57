"""`mkmsr models`: every registered model."""

from __future__ import annotations

from mkmsr.cli.console import COMMON, Common, terminal, text_table

__all__ = ["models"]


def models(*, common: Common = COMMON) -> None:
    """List every model: name, one line, source."""
    from mkmsr.models.registry import MODELS

    with terminal(common) as out:
        out.document(
            [
                {"name": name, "summary": entry.summary, "source": entry.source, "flagship": entry.flagship}
                for name, entry in MODELS.items()
            ]
        )
        rows = [
            [name + (" (flagship)" if entry.flagship else ""), entry.summary, entry.source]
            for name, entry in MODELS.items()
        ]
        out.show(text_table("Models", ["name", "summary", "source"], rows, numbers_from=3))
