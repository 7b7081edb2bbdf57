"""Full-catalogue ranking of held-out sessions: ranks, metrics, slices, intervals and paired significance."""
