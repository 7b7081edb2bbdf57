"""What every room stands on: files, worker processes, process groups, the environment."""
