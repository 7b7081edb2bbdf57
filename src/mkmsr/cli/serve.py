"""`mkmsr serve`: the live service of a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mkmsr.cli.console import COMMON, Common, terminal
from mkmsr.errors import ConfigError
from mkmsr.serve.settings import Settings

if TYPE_CHECKING:
    from mkmsr.serve.server import Address


def serve(
    bundle: Path,
    /,
    *,
    settings: Annotated[Settings, Parameter(name="*", consume_multiple=True, negative=())] = Settings(),
    common: Common = COMMON,
) -> None:
    """Serve a bundle over HTTP, with a demo page at / and the description of all endpoints at /openapi.json.

    Without --keys only this machine can call. With --json the addresses are printed as a JSON document when requests
    are answered. SIGTERM ends the service after the requests that are under way.

    Args:
        bundle: A saved model, for example runs/shop/bundle.
    """
    try:
        from mkmsr.serve.server import serve as run
    except ImportError as error:
        raise ConfigError(f"serving needs {error.name}: pip install 'mkmsr[serve]'", key="serve") from None
    with terminal(common) as out:

        def ready(address: Address) -> None:
            out.document(vars(address))
            out.print(f"{bundle} is served at {address.url}/ (Ctrl-C ends it)")
            out.print(address.lists)
            out.flush()

        run(replace(settings, bundle=bundle), ready)
