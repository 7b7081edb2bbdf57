"""Fixtures that several folders of tests share."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mkmsr.data.batching import EarlierBatch
from mkmsr.data.knowledge import KnowledgeGraph
from mkmsr.data.sessions import ExampleTable, SessionTable
from mkmsr.data.vocabulary import Vocabulary
from mkmsr.models.base import ModelSizes, TrainingData

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small tensors are slower on several threads, and sums then depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; a test that needs it is skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("development data is not beside the checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The distribution's headless Chromium; a test that needs it is skipped where it is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    browser.set_window_size(1280, 1000)
    yield browser
    browser.quit()


def earlier_batch(sessions: Sequence[Sequence[tuple[int, int]]]) -> EarlierBatch:
    """What visitors touched before, written out as the (item, operation) pairs of each session, newest first."""
    pairs = torch.tensor([pair for each in sessions for pair in each], dtype=torch.int64).reshape(-1, 2)
    offsets = torch.tensor([0, *itertools.accumulate(map(len, sessions))])
    return EarlierBatch(items=pairs[:, 0].clone(), operations=pairs[:, 1].clone(), offsets=offsets)


def session_table(*sessions: list[tuple[int, int]]) -> SessionTable:
    """Sessions written out as (item, operation) pairs; the times count the events."""
    events = [event for session in sessions for event in session]
    return SessionTable(
        np.array([item for item, _ in events], np.int32),
        np.array([operation for _, operation in events], np.int16),
        np.cumsum([0, *(len(session) for session in sessions)]).astype(np.int64),
        np.arange(len(events), dtype=np.int64),
    )


@pytest.fixture(scope="session")
def small_sizes() -> ModelSizes:
    """Sizes of `small_training`."""
    return ModelSizes(num_items=12, num_operations=3, num_attributes=5, num_relations=2)


@pytest.fixture(scope="session")
def small_training(small_sizes: ModelSizes) -> TrainingData:
    """Forty random sessions of one to nine events over 12 items and 3 operations; each item has one or two triples."""
    rng = np.random.default_rng(7)
    walks = []
    for length in rng.integers(1, 10, size=40):
        pairs = zip(rng.integers(1, 13, size=length), rng.integers(1, 4, size=length), strict=True)
        walks.append([(int(item), int(operation)) for item, operation in pairs])
    sessions = session_table([(item, 1 + item % 3) for item in range(1, 13)], *walks)
    first = [(item, 1, 12 + 1 + item % 3) for item in range(1, 13)]
    second = [(item, 2, 12 + 4 + item % 2) for item in range(1, 13, 2)]
    knowledge = KnowledgeGraph(
        np.array(sorted(first + second), np.int64),
        Vocabulary(["brand", "shop"], kind="relation"),
        Vocabulary([f"brand={n}" for n in range(3)] + [f"shop={n}" for n in range(2)], kind="attribute"),
        small_sizes.num_items,
    )
    return TrainingData(sessions, ExampleTable.from_sessions(sessions), knowledge)
