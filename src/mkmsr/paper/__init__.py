"""The paper's tables and figures from our own runs: trains what is missing, then writes what the runs say."""
