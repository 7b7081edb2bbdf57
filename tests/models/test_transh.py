"""TransH against its formula, one triple at a time, and against PyKEEN where that is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mkmsr.models.mkm_sr import TransH, transh_distance


def random_triples(count: int, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    head, normal, translation, tail = torch.randn(4, count, dim, dtype=torch.float64)
    return head, normal, translation, tail


def literal(head: np.ndarray, normal: np.ndarray, translation: np.ndarray, tail: np.ndarray) -> float:
    w = normal / np.sqrt(sum(x * x for x in normal))
    head_projected = head - (w @ head) * w
    tail_projected = tail - (w @ tail) * w
    return float(sum(x * x for x in head_projected + translation - tail_projected))


def test_the_distance_is_what_the_formula_gives() -> None:
    triples = random_triples(20, 6)
    expected = [literal(*(part[row].numpy() for part in triples)) for row in range(20)]
    np.testing.assert_allclose(transh_distance(*triples).numpy(), expected, rtol=1e-12)


def test_the_distance_is_that_of_pykeen() -> None:
    interactions = pytest.importorskip("pykeen.nn.modules", reason="PyKEEN is not installed")
    head, normal, translation, tail = (part.float() for part in random_triples(50, 16))
    unit = torch.nn.functional.normalize(normal, dim=-1)
    score = interactions.TransHInteraction(p=2, power_norm=True)(h=head, r=(unit, translation), t=tail)
    torch.testing.assert_close(transh_distance(head, normal, translation, tail), -score, rtol=1e-5, atol=1e-5)


def test_the_length_of_a_normal_does_not_matter() -> None:
    head, normal, translation, tail = random_triples(20, 6)
    scaled = transh_distance(head, 7.5 * normal, translation, tail)
    torch.testing.assert_close(scaled, transh_distance(head, normal, translation, tail))


def test_what_lies_along_the_normal_does_not_count() -> None:
    head, normal, translation, tail = random_triples(20, 6)
    moved = transh_distance(head + 3 * normal, normal, translation, tail - 2 * normal)
    torch.testing.assert_close(moved, transh_distance(head, normal, translation, tail))


def test_a_triple_that_fits_has_distance_zero() -> None:
    head, normal, _, tail = random_triples(20, 6)
    unit = torch.nn.functional.normalize(normal, dim=-1)
    difference = tail - head
    translation = difference - (difference * unit).sum(-1, keepdim=True) * unit
    assert transh_distance(head, normal, translation, tail).abs().max() < 1e-20


def test_gradients_are_those_of_finite_differences() -> None:
    triples = [part.requires_grad_() for part in random_triples(4, 3)]
    assert torch.autograd.gradcheck(transh_distance, triples)


def test_the_layer_looks_each_part_up_in_its_own_table() -> None:
    torch.manual_seed(1)
    layer, items = TransH(2, 3, 4), torch.randn(2, 4)
    found = layer(items, torch.tensor([2, 1]), torch.tensor([3, 1]))
    normals, translations = layer.normals.weight[[2, 1]], layer.translations.weight[[2, 1]]
    expected = transh_distance(items, normals, translations, layer.attributes.weight[[3, 1]])
    assert torch.equal(found, expected)


def test_padding_rows_are_zero() -> None:
    layer = TransH(2, 3, 4)
    layer.reset_parameters()
    for table in (layer.attributes, layer.normals, layer.translations):
        assert not table.weight[0].any()
        assert table.weight[1:].all()
