"""Products with the catalogue by blocks against the plain product."""

from __future__ import annotations

import pytest
import torch

from mkmsr.layers.fast.catalogue_product import CatalogueProduct


@pytest.mark.parametrize("num_items", [1, 4096, 9001])
@pytest.mark.parametrize("num_queries", [1, 7])
def test_products_by_blocks_are_those_of_the_whole_catalogue(num_items: int, num_queries: int) -> None:
    generator = torch.Generator().manual_seed(num_items)
    items, queries = (torch.randn(rows, 12, generator=generator) for rows in (num_items, num_queries))
    found = CatalogueProduct(items)(queries)
    torch.testing.assert_close(found, queries @ items.T)
    assert found.is_contiguous()
