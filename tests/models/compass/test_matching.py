"""Attribute matches against their formula."""

from __future__ import annotations

import torch

from mkmsr.models.compass.explore import AttributeMatch

ATTRIBUTES, RELATIONS, SESSIONS = 9, 2, 3
# (attribute, relation, share, age, session), one line an attribute of an event
EVENTS = [(2, 1, 1.0, 0, 0), (7, 2, 0.5, 0, 0), (8, 2, 0.5, 0, 0), (2, 1, 1.0, 3, 0), (4, 1, 1.0, 40, 2)]


@torch.no_grad()
def test_weights_follow_the_formula() -> None:
    torch.manual_seed(0)
    matching = AttributeMatch(ATTRIBUTES, RELATIONS)
    matching.by_age.normal_()
    matching.by_attribute.weight[1:].normal_()
    expected = torch.zeros(ATTRIBUTES + 1, SESSIONS)
    for attribute, relation, share, age, session in EVENTS:
        theta = matching.by_age[relation, min(age, 27)]
        expected[attribute, session] += float(theta * (1 + matching.by_attribute.weight[attribute, 0]) * share)
    columns = [torch.tensor(column) for column in zip(*EVENTS, strict=True)]
    torch.testing.assert_close(matching(*columns, SESSIONS), expected)
