"""The CSV: one row a case, appended and flushed as it is made, read back strictly. The dataclass Row is its schema."""

from convbench.results.reader import read
from convbench.results.schema import (
    COLUMNS,
    FAMILIES,
    SAMPLE_COLUMNS,
    STATUSES,
    NotWritten,
    ResultsError,
    Row,
    cell,
    phases_cell,
)
from convbench.results.versus import LIBRARY, fastest_library, times, versus
from convbench.results.writer import Writer

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "LIBRARY",
    "SAMPLE_COLUMNS",
    "STATUSES",
    "NotWritten",
    "ResultsError",
    "Row",
    "Writer",
    "cell",
    "fastest_library",
    "phases_cell",
    "read",
    "times",
    "versus",
]
