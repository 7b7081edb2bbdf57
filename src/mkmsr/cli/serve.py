"""`mkmsr serve`: the live service of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.cli.console import COMMON, Common, terminal
from mkmsr.errors import ConfigError

if TYPE_CHECKING:
    from mkmsr.serve.server import Address

_SERVED = Parameter(validator=Number(gte=0, lte=65535))


def serve(
    bundle: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, _SERVED] = 8420,
    admin_port: Annotated[int | None, _SERVED] = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=256))] = 1,
    store: str = "auto",
    state: Path | None = None,
    keys: Path | None = None,
    origins: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    image_hosts: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    proxies: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    beside: Path | None = None,
    split: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.0,
    idle_minutes: Annotated[float, Parameter(validator=Number(gt=0))] = 30.0,
    session_memory: Annotated[int, Parameter(validator=Number(gte=1))] = 256,
    common: Common = COMMON,
) -> None:
    """Serve a bundle over HTTP, with a demo page at / and the description of all endpoints at /openapi.json.

    Without --keys only this machine can call. With --json the addresses are printed as a JSON document when requests
    are answered. SIGTERM ends the service after the requests that are under way.

    Args:
        bundle: A saved model, for example runs/shop/bundle.
        host: Address to listen at; any other than a loopback one needs --keys.
        port: Port; 0 is a free one.
        admin_port: With --keys, port on 127.0.0.1 for catalogue, bundles and metrics; the next one if missing.
        workers: Processes that share the port.
        store: Where sessions live: auto is memory for one worker and sqlite for several; redis://host:6379/0 serves
            several machines.
        state: Folder for what outlives the service: sessions and catalogue changes. Missing keeps nothing.
        keys: File of keys, one a line: secret KEY or public KEY, perhaps with requests a second behind.
        origins: Web pages that may call, such as https://shop.example.
        image_hosts: Hosts whose images may be shown.
        proxies: Addresses of proxies before the service, whose X-Forwarded-For says who calls: rates of public keys are
            counted by caller.
        beside: A second bundle, which requests name by its model, or which answers a share of the sessions.
        split: That share.
        idle_minutes: After so many minutes without an event a session is forgotten.
        session_memory: MiB that all sessions may take; beyond that those longest idle are forgotten.
    """
    try:
        from mkmsr.serve.server import serve as run
    except ImportError as error:
        raise ConfigError(f"serving needs {error.name}: pip install 'mkmsr[serve]'", key="serve") from None
    from mkmsr.serve.settings import Settings

    settings = Settings(
        bundle=bundle,
        beside=beside,
        split=split,
        host=host,
        port=port,
        admin_port=admin_port,
        workers=workers,
        store=store,
        state=state,
        keys=keys,
        origins=origins,
        image_hosts=image_hosts,
        proxies=proxies,
        idle=60 * idle_minutes,
        capacity=session_memory,
    )
    with terminal(common) as out:

        def ready(address: Address) -> None:
            out.document(vars(address))
            out.print(f"{bundle} is served at {address.url}/ (Ctrl-C ends it)")
            out.flush()

        run(settings, ready)
