"""The program `mkmsr`: its commands by name, and how errors become exit statuses.

0: done. 1: something failed, with one line that says what. 2: a wrong call. `--debug` shows the traceback instead.
"""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError, MissingArgumentError, UnusedCliTokensError

from mkmsr.cli.console import LineConsole, WrongCall, command_group, printable
from mkmsr.errors import MkmsrError
from mkmsr.runtime.process_group import own_rank, own_size

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("demo", "demo:demo", "mkmsr demo --out runs/demo"),
    ("simulate", "data:simulate", "mkmsr simulate --out shop --sessions 20000 --seed 7"),
    ("fetch", "fetch:fetch", "mkmsr fetch kkbox\nmkmsr fetch jdata-demo --out downloads/jdata_demo"),
    (
        "prepare",
        "data:prepare",
        "mkmsr prepare events shop/events.parquet --out data/shop\n"
        "mkmsr prepare events log.csv --columns item=sku,time=ts,user=uid --out data/x\n"
        "mkmsr prepare jdata-demo downloads/demo --new-items keep --out data/demo_n\n"
        "mkmsr prepare kkbox downloads/kkbox --out data/kkbox",
    ),
    ("describe", "data:describe", "mkmsr describe data/shop"),
    (
        "forget",
        "data:forget",
        "mkmsr forget data/shop visitor.csv --bundle runs/shop/bundle\n"
        "mkmsr forget data/shop visitor.csv --columns item=sku,time=ts,user=uid",
    ),
    ("models", "installation:models", "mkmsr models --json"),
    (
        "train",
        "train:train",
        "mkmsr train data/shop --model compass --out runs/shop --refit\n"
        "mkmsr train data/shop --model narm --out runs/x --set model.dim=64\n"
        "torchrun --nproc-per-node 2 -m mkmsr train data/x --model narm --out runs/x",
    ),
    ("tune", "train:tune", "mkmsr tune data/shop --model v-sknn --trials 50 --out runs/tune"),
    ("grid", "train:grid", "mkmsr grid data/a data/b --models compass,v-sknn --out runs/grid"),
    ("evaluate", "evaluate:evaluate", "mkmsr evaluate runs/shop/bundle data/shop --split test --k 5,10,20"),
    ("compare", "evaluate:compare", "mkmsr compare runs/shop runs/pop runs/recency"),
    ("report", "evaluate:report", "mkmsr report runs/shop --beside runs/pop"),
    (
        "recommend",
        "recommend:recommend",
        "mkmsr recommend runs/shop/bundle --session visits.jsonl -k 5\n"
        "mkmsr recommend runs/shop/bundle --session - --where launch_year=2020..\n"
        "mkmsr recommend runs/shop/bundle --session - --at-most brand=2 --explain\n"
        "mkmsr recommend runs/shop/bundle --sessions events.parquet --out lists",
    ),
    (
        "serve",
        "serve:serve",
        "mkmsr serve runs/shop/bundle\nmkmsr serve runs/shop/bundle --state state --host 0.0.0.0 --keys keys.txt",
    ),
    ("export", "recommend:export", "mkmsr export runs/shop/bundle --format onnx --out shop.onnx"),
    ("doctor", "installation:doctor", "mkmsr doctor --json"),
)
"""Name, home below `mkmsr.cli`, and examples of each command."""

GROUPS = {"reproduce": "reproduce:REPRODUCE", "bench": "bench:BENCH"}

_HELP = ("--help", "-h")

_PASSWORD = re.compile(r"(:/+[^\s:/@]*):\S*@|(password=)[^&\s]+", re.IGNORECASE)
"""The password in an address of a database, which may stand where no database is expected."""

_MEMORY = re.compile(r"allocate memory|out of memory|storage size calculation overflowed", re.IGNORECASE)
_DISK = re.compile(r"no space left|quota exceeded|file too large|disk is full|disk i/o error", re.IGNORECASE)
"""What libraries say in errors of their own when memory or disk is at its end."""

_LESS_MEMORY = {
    "prepare": "--engine duckdb --memory-limit 4GB works on disk",
    "train": "a smaller training.batch_size or model.dim takes less",
    "tune": "a smaller training.batch_size or model.dim takes less, and so do fewer --workers",
}
_LESS_DISK = {"prepare": "--scratch FOLDER is another place for temporary files"}

_GOING_ON = {
    "train": "with --resume the same call goes on from its last checkpoint",
    "recommend": "with --resume the same call goes on after the last file of --sessions",
    "tune": "the same call again goes on after its last trial",
    "grid": "the same call again goes on where this one stopped",
    "reproduce": "the same call again goes on where this one stopped",
    "fetch": "the same call again goes on where this one stopped",
}
"""What to do after an interruption, for commands that need not begin again."""


def app() -> App:
    """Return the program with all its commands, each imported when it is called."""
    program = command_group(
        "mkmsr",
        "Session-based recommendation from micro-behaviours and item knowledge: "
        "from a raw event log to ranked next items.",
        "mkmsr demo --out runs/demo",
        [(name, f"mkmsr.cli.{home}", calls) for name, home, calls in COMMANDS],
        suppress_keyboard_interrupt=False,
        version=_version,
    )
    for name, home in GROUPS.items():
        program.command(f"mkmsr.cli.{home}", name=name, sort_key=len(COMMANDS))
    program.command(_install_completion, name="--install-completion", sort_key=len(COMMANDS) + 1)
    return program


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an id that the terminal cannot show ends no command
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("mkmsr").setLevel(logging.INFO if own_rank() == 0 else logging.WARNING)
    command, debug = arguments[0] if arguments else "", "--debug" in arguments
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # What stops a service or a job of a cluster.
    try:
        # Every process would do the whole work, and all would write to the same place.
        if own_size() > 1 and list(arguments[:1]) != ["train"]:
            raise WrongCall("under torchrun only `mkmsr train` shares its work; of others each process would do all")
        program = app()
        if not arguments or arguments[0] in _HELP:
            program.resolved_commands()  # so that what each does is known
        program(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        error.verbose = False
        _complain(_wrong_call(error), f"See: mkmsr {' '.join([*(error.command_chain or ()), '--help'])}")
        return 2
    except WrongCall as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        way_on = _GOING_ON.get(command)
        _complain(f"interrupted; {way_on}" if way_on else "interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        reason = _reason(error, command)
        if reason is None:
            raise
        _complain(*(traceback.format_exc().splitlines() if debug else [reason]))
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _install_completion() -> None:
    """Let bash, zsh, fish or PowerShell complete commands and options; adds a line to the shell's start-up file."""
    print(f"written: {app().install_completion()}; it works in every new shell")


def _version() -> str:
    from importlib.metadata import version  # costs as much as all other imports of this file

    return version("mkmsr")


class _PrintableLines(logging.Formatter):
    """Log records as printable lines: a warning may quote ids."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).splitlines()))


def _complain(text: str, *more: str) -> None:
    """Print an error in one line, and what to do about it in more."""
    speaker = f"mkmsr, rank {own_rank()}" if own_rank() else "mkmsr"
    console = LineConsole(stderr=True)
    for line in (f"{speaker}: {text}", *more):
        masked = _PASSWORD.sub(lambda found: f"{found[1]}@" if found[1] else f"{found[2]}***", line)
        console.print(masked, style="red")


def _wrong_call(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"no use for {' '.join(map(repr, error.unused_tokens or ()))}; a path with spaces needs quotation marks"
    if isinstance(error, MissingArgumentError):
        given = error.keyword is not None or (error.argument is not None and error.argument.tokens)
        return str(error).replace("requires an argument", "needs a value" if given else "is missing")
    return str(error)


def _reason(error: Exception, command: str) -> str | None:
    """What happened, in one line; None for what is a fault of ours, and no one of the caller, the data or the machine.

    Memory and disk end in errors of whichever library asked last, so that these are told by their words.
    """
    text, is_ours, hint = str(error), isinstance(error, MkmsrError), ""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if _DISK.search(text):
        hint = _LESS_DISK.get(command, "")
    elif isinstance(error, MemoryError) or (_MEMORY.search(text) and not is_ours):
        text, hint = f"not enough memory: {text}", _LESS_MEMORY.get(command, "")
    elif not isinstance(error, MkmsrError | OSError):
        return None
    text = text if is_ours else text.partition("\n")[0]
    return f"{text}; {hint}" if hint else text
