"""For PYTHONPATH: Python reads it in each process that a test starts, and in those which that one starts."""

import small_ceilings  # noqa: F401
