"""One case measured: opened, checked, warmed up, sampled in turn with its rivals, weighed."""
