"""Floor 7: merging as the reading of a chosen access set."""
