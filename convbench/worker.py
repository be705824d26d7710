"""A worker process: `python -m convbench.worker FD`, started by bench.Apart and by nobody else."""

from __future__ import annotations

import sys

from convbench.process import serve


def main() -> None:
    """Answer the parent until it is gone."""
    from convbench.bench import Worker

    serve(sys.argv[1:], Worker().answer)


if __name__ == "__main__":
    main()
