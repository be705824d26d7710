"""The CSV: one row a case, appended and flushed as it is made, read back strictly. The dataclass Row is its schema."""

from convbench.results.reader import read
from convbench.results.schema import COLUMNS, FAMILIES, SAMPLE_COLUMNS, STATUSES, NotWritten, ResultsError, Row, cell
from convbench.results.writer import Writer

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "SAMPLE_COLUMNS",
    "STATUSES",
    "NotWritten",
    "ResultsError",
    "Row",
    "Writer",
    "cell",
    "read",
]
