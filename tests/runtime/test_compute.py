"""How many threads PyTorch computes with."""

from __future__ import annotations

from contextlib import suppress

import torch

from mkmsr.runtime.compute import torch_threads


def test_the_number_of_threads_is_as_before_even_after_an_error() -> None:
    before = torch.get_num_threads()

    with suppress(ValueError), torch_threads(before + 1):
        inside = torch.get_num_threads()
        raise ValueError

    assert (inside, torch.get_num_threads()) == (before + 1, before)


def test_zero_threads_leave_the_choice_that_was_made_before() -> None:
    before = torch.get_num_threads()

    with torch_threads(0):
        assert torch.get_num_threads() == before
