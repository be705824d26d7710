"""Direct families: the seven loops, naive and blocked."""
