"""Training: losses, the order of their steps, and the one loop that moves weights. Knows no test split."""
