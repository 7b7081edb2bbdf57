"""From a raw event log to prepared sessions, examples and item knowledge, and to the batches that models receive."""
