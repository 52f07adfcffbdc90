"""Floor 8: places outside this machine that checkpoints come from and go to."""
