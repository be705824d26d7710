"""python -m convbench."""

from convbench.cli import main

main()
