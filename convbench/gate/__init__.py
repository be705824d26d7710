"""The regression gate: two results files or two revisions compared, one verdict a cell, one exit code for the whole."""

from pathlib import Path

BASELINES = Path("results/baseline")  # where `baseline save` keeps them and `check` looks for them
