"""One readable file a model; `base.py` says what a model is, `capabilities.py` what some can do besides.

To add one, write its file, which ends with its entry, and name the entry in `registry.py`.
"""
