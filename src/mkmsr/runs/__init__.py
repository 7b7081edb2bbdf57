"""One experiment in one folder; grids, search and jobs."""
