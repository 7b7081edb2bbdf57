"""Recommenders without training: neighbour sessions, neighbour items and sequential rules."""
