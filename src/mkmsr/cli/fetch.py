"""`mkmsr fetch`: where public data sets come from, whether a copy is whole, and what can be downloaded directly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mkmsr.cli.console import COMMON, Common, Terminal, WrongCall, printable, terminal, text_table
from mkmsr.errors import DataError

if TYPE_CHECKING:
    from mkmsr.data.downloads import FileCheck
    from mkmsr.data.readers.public import PublicDataset


def fetch(
    name: str | None = None,
    /,
    *,
    verify: Path | None = None,
    out: Path | None = None,
    mirror: str | None = None,
    common: Common = COMMON,
) -> None:
    """Say where a public data set is offered and under which terms; check a copy of it; download it where that is open.

    Args:
        name: The data set; without it, all of them are listed.
        verify: Folder with the unpacked files: check names, columns, sizes and, where known, contents.
        out: Folder to download to, for a data set with a direct public address.
        mirror: Address that holds the same files, instead of the owner's.
    """
    if name is None and (verify is not None or out is not None):
        raise WrongCall("which data set? for example: mkmsr fetch kkbox --verify downloads/kkbox")
    if verify is not None and out is not None:
        raise WrongCall("give either --verify or --out: a download is checked anyway")
    with terminal(common) as screen:
        from mkmsr.data.downloads import public_dataset
        from mkmsr.data.readers import PUBLIC_DATASETS

        if name is None:
            _list(screen, list(PUBLIC_DATASETS.values()))
            return
        dataset = public_dataset(name)
        if verify is not None:
            _verify(screen, dataset, verify)
        elif out is not None:
            _download(screen, dataset, out, mirror)
        else:
            screen.document(_description(dataset))
            _describe(screen, dataset)


def _list(screen: Terminal, datasets: list[PublicDataset]) -> None:
    screen.document([_description(dataset) for dataset in datasets])
    rows = [[each.name, each.title, "direct" if each.address else each.owner] for each in datasets]
    screen.show(text_table("Public data sets", ["name", "what", "from"], rows, numbers_from=9))
    screen.print("Next: mkmsr fetch NAME")


def _describe(screen: Terminal, dataset: PublicDataset) -> None:
    screen.print(f"{dataset.name}: {dataset.title}")
    screen.print(f"offered by {dataset.owner}: {dataset.page}")
    screen.print(f"terms: {dataset.terms} (as far as known; the owner's page decides)")
    rows = []
    for file in dataset.files:
        sizes = [f"{count:,} {what}" for count, what in ((file.bytes, "bytes"), (file.rows, "rows")) if count]
        rows.append([file.name, "yes" if file.needed else "no", ", ".join(sizes)])
    screen.show(text_table("Files", ["file", "needed", "size"], rows, numbers_from=9))
    folder = f"downloads/{dataset.name}"
    if dataset.address is not None:
        screen.print(f"Next: mkmsr fetch {dataset.name} --out {folder}")
    else:
        screen.print(f"Next: download and unpack the files, then mkmsr fetch {dataset.name} --verify {folder}")


def _verify(screen: Terminal, dataset: PublicDataset, folder: Path) -> None:
    from mkmsr.data.downloads import check_files

    total = sum(file.bytes or 0 for file in dataset.files) or None
    with _bar(screen) as bar:
        task = bar.add_task(printable(f"reading {folder}"), total=total)
        checks = list(check_files(dataset, folder, progress=lambda count: bar.advance(task, count)))
    wrong = [check for check in checks if check.problems]
    files = [
        {"name": each.file.name, "found": None if each.path is None else str(each.path), "bytes": each.bytes}
        | {"rows": each.rows, "problems": list(each.problems)}
        for each in checks
    ]
    screen.document({"name": dataset.name, "folder": str(folder), "ok": not wrong, "files": files})
    rows = [
        [check.file.name, f"{check.bytes:,}", f"{check.rows:,}", "; ".join(check.problems) or _verdict(check)]
        for check in checks
    ]
    screen.show(text_table(f"{dataset.name} in {folder}", ["file", "bytes", "rows", "verdict"], rows))
    if all(check.path is None for check in checks):
        raise DataError("holds none of the files", path=folder)
    if wrong:
        raise DataError(f"{len(wrong)} of {len(checks)} files are not as they should be", path=folder)
    screen.next("prepare", dataset.name, folder, "--out", f"data/{dataset.name}")


def _verdict(check: FileCheck) -> str:
    if check.path is None:
        return "not there, not needed"
    return "right" if check.file.bytes or check.file.rows or check.file.sha256 else "right columns; size not known"


def _download(screen: Terminal, dataset: PublicDataset, folder: Path, mirror: str | None) -> None:
    from mkmsr.data.downloads import download

    address = mirror or dataset.address
    if address is None:
        raise DataError(
            f"{dataset.owner} asks for an account and its terms to be accepted: {dataset.page}; "
            f"then mkmsr fetch {dataset.name} --verify DIR"
        )
    screen.note(f"{dataset.name}, offered by {dataset.owner}: {dataset.page}")
    screen.note(f"terms: {dataset.terms}")
    fetched = 0
    with _bar(screen) as bar:
        for file in dataset.files:
            task = bar.add_task(file.name, total=file.bytes)
            fetched += download(
                f"{address.rstrip('/')}/{file.name}",
                folder / file.name,
                size=file.bytes,
                sha256=file.sha256,
                progress=lambda count, task=task: bar.advance(task, count),  # type: ignore[misc]
            )
    screen.document({"name": dataset.name, "folder": str(folder), "files": len(dataset.files), "fetched": fetched})
    screen.print(f"{len(dataset.files)} files, {fetched} of them fetched now, all checked: {folder}")
    screen.next("prepare", dataset.name, folder, "--out", f"data/{dataset.name}")


def _bar(screen: Terminal) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=screen.progress, transient=True)


def _description(dataset: PublicDataset) -> dict[str, Any]:
    return {
        **{key: getattr(dataset, key) for key in ("name", "title", "owner", "page", "terms")},
        "direct": dataset.address is not None,
        "files": [
            {"name": file.name, "needed": file.needed, "columns": file.columns.split(","), "bytes": file.bytes}
            | {"rows": file.rows, "sha256": file.sha256}
            for file in dataset.files
        ],
    }
