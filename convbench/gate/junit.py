"""An outcome as JUnit XML, as GitLab, Jenkins and most other systems read it.

Valid against the schema of Ant's JUnit task (windyroad/JUnit-Schema), the strictest in use, whose order of elements,
required attributes and three decimals the looser schemas accept, too.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree

from convbench.gate.outcome import CellResult, Outcome, Verdict, interval, percent, ratio, usable

FAILURE, ERROR, SKIPPED = "failure", "error", "skipped"
ELEMENTS = {
    Verdict.FAIL: FAILURE,
    Verdict.WRONG: ERROR,
    Verdict.MISSING: ERROR,
    Verdict.UNSTABLE: ERROR,
    Verdict.INCONCLUSIVE: SKIPPED,
}
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
NOTHING = CellResult("nothing/compared", Verdict.MISSING, reason="no cell was compared")


def junit(outcome: Outcome) -> str:
    """One test suite with a test case a cell: slower is a failure, not measured or wrong an error, open skipped."""
    cells = outcome.ordered or [NOTHING]
    kinds = [ELEMENTS.get(cell.verdict) for cell in cells]
    name = f"convbench.{outcome.kind}"
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", {
        "name": name, "package": "convbench", "id": "0", "hostname": "localhost",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}", "tests": str(len(cells)),
        "failures": str(kinds.count(FAILURE)), "errors": str(kinds.count(ERROR)), "skipped": str(kinds.count(SKIPPED)),
        "time": seconds(sum(usable(cell.head_ms) or 0.0 for cell in cells)),
    })  # fmt: skip
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (("base", outcome.base), ("head", outcome.head), ("hardware", outcome.hardware),
                       ("verdict", outcome.verdict)):  # fmt: skip
        ElementTree.SubElement(properties, "property", {"name": key, "value": clean(value)})
    for cell, kind in zip(cells, kinds, strict=True):
        add_case(suite, name, cell, kind)
    ElementTree.SubElement(suite, "system-out").text = clean("\n".join([outcome.headline, *outcome.notes]))
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def add_case(suite: ElementTree.Element, name: str, cell: CellResult, kind: str | None) -> None:
    """A cell as a test case: its layer the class, its algorithm the name."""
    layer, _, algo = cell.cell.partition("/")
    case = ElementTree.SubElement(suite, "testcase", {
        "classname": token(f"{name}.{layer}"), "name": token(algo or layer),
        "time": seconds(usable(cell.head_ms) or 0.0),
    })  # fmt: skip
    if kind is None:
        return
    message = cell.reason or cell.verdict
    found = ElementTree.SubElement(case, kind, {} if kind == SKIPPED else {"type": cell.verdict})
    if kind == SKIPPED:  # its schema has no message attribute; every reader that knows one also takes the text
        found.text = clean(f"{cell.verdict}: {message}")
        return
    found.set("message", clean(message))
    facts = [
        ("time ratio", ratio(cell)), ("95 % interval", interval(cell)),
        ("could have detected", percent(cell.detectable)),
    ]  # fmt: skip
    found.text = clean("\n".join([f"{cell.cell}: {message}", *(f"{key}: {value}" for key, value in facts if value)]))


def seconds(ms: float) -> str:
    """Milliseconds as seconds with the three decimals that the schema of Surefire allows."""
    return f"{ms / 1e3:.3f}"


def token(text: str) -> str:
    """An xs:token: no line breaks, no double, leading or trailing spaces."""
    return one_line(text) or "unnamed"


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return " ".join(clean(text).split())


def clean(text: str) -> str:
    """The text without characters that XML has no way to write."""
    return NOT_XML.sub("\ufffd", text)
