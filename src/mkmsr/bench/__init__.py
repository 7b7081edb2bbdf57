"""Timing: what an epoch, an evaluation and a preparation cost on this machine, and how near an epoch is to its floor.

One file a measurement; import from there, so that timing a preparation loads no PyTorch. Each returns a plain
dictionary for JSON: first the keys that scripts rely on, then `spread` (smallest, median and largest of the
repetitions) and the environment.
"""
