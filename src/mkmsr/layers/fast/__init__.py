"""Passes written by hand, each beside its plain twin, the definition that tests compare it with.

They stand here because they are worth at least 8 % of an epoch of MKM-SR or COMPASS (docs/benchmarks.md).
"""
