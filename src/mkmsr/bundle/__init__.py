"""Saved models: their files, their card, use on other data, continued training."""
