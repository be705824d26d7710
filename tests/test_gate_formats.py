"""What machines read: workflow commands, JUnit, benchmark-action, Bencher, Markdown, JSON; by their published rules."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gate_outcomes import ALL, EVERY, cell, gone, outcome

from convbench.gate.formats import FORMATS, render, table_too, wanted, write
from convbench.gate.github import LIMIT, SUMMARY_BYTES, append_summary, command, escape, escape_property, markdown
from convbench.gate.junit import junit
from convbench.gate.outcome import GateError, Outcome, Verdict


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("found", ALL, ids=["every verdict", "none", "one", "gone", "many"])
def test_every_form_takes_every_outcome(name: str, found: Outcome, tmp_path: Path) -> None:
    text = render(found, name)
    assert text.endswith("\n")
    assert write(found, [(name, tmp_path / "folder" / "file")]) == ""
    assert (tmp_path / "folder" / "file").read_bytes()


# GitHub: https://docs.github.com/actions/reference/workflow-commands-for-github-actions

COMMAND = re.compile(r"::(error|warning|notice) title=([^:,\r\n]*)::([^\r\n]*)")


def test_workflow_commands_are_escaped() -> None:
    assert escape("100 %\r\nx:y,z") == "100 %25%0D%0Ax:y,z"
    assert escape("%0A") == "%250A"
    assert escape_property("a:b,c%\n") == "a%3Ab%2Cc%25%0A"
    assert command("error", "a,b", "c\nd") == "::error title=a%2Cb::c%0Ad"


@pytest.mark.parametrize("found", ALL, ids=["every verdict", "none", "one", "gone", "many"])
def test_every_line_is_one_workflow_command(found: Outcome) -> None:
    lines = render(found, "github").split("\n")
    assert lines.pop() == ""
    for line in lines:
        match = COMMAND.fullmatch(line)
        assert match, line
        assert all(re.match(r"%(25|0D|0A|3A|2C)", part) for part in re.findall("%.{0,2}", "".join(match.groups())))


def test_verdicts_become_levels_and_passing_cells_are_quiet() -> None:
    text = render(outcome(*(cell(v, f"{v}/x") for v in Verdict)), "github")
    found = {title.split()[0]: level for level, title, _ in COMMAND.findall(text) if not title.startswith("convbench")}
    assert found == {
        "WRONG": "error", "FAIL": "error", "MISSING": "error", "UNSTABLE": "error", "INCONCLUSIVE": "warning",
        "IMPROVED": "notice",
    }  # fmt: skip
    assert text.startswith("::error title=convbench check::WRONG: 1 WRONG, 1 FAIL")
    assert render(outcome(cell()), "github").startswith("::notice title=convbench check::PASS: 1 PASS")
    assert render(outcome(), "github").startswith("::error title=convbench check::MISSING: nothing was compared")


@pytest.mark.parametrize("count", [1, 9, 10, 11, 40])
def test_github_gets_at_most_ten_of_a_kind(count: int) -> None:
    kinds = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.IMPROVED)
    text = render(outcome(*(cell(v, f"c{i}/{v}", 2 + i) for v in kinds for i in range(count))), "github")
    for level, verdict, room in (("error", "FAIL", 9), ("warning", "INCONCLUSIVE", 10), ("notice", "IMPROVED", 10)):
        lines = [line for line in text.splitlines() if line.startswith(f"::{level} ")]
        assert len(lines) <= LIMIT
        named = sum(f"title={verdict} " in line for line in lines)
        if count <= room:
            assert named == count
        else:
            assert named == room - 1
            assert f"{count - named} more of this kind" in lines[-1]
            assert f"title={verdict} c{count - 1}/" in text  # the worst


def test_the_step_summary_is_appended_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    append_summary(EVERY)
    target = tmp_path / "summary.md"
    target.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    printed = write(EVERY, [("github", None)])
    assert printed == render(EVERY, "github")
    assert target.read_text().startswith("before\n### convbench check: WRONG\n")
    large = outcome(*(cell(name=f"{i}/{'x' * 200}", reason="y" * 300) for i in range(4000)))
    append_summary(large)
    assert target.stat().st_size <= SUMMARY_BYTES
    assert "more cells are not shown" in target.read_text()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "folder"))
    with pytest.raises(GateError, match="GITHUB_STEP_SUMMARY"):
        append_summary(EVERY)


def test_markdown_is_a_table_worst_first() -> None:
    lines = [line for line in markdown(EVERY).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(EVERY.cells)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {9}
    assert "**WRONG**" in lines[2]
    assert "| **IMPROVED** |" in lines[-1]
    assert "\n- numpy differs\n" in markdown(EVERY)


# JUnit: the rules of the schema of Ant's JUnit task, https://github.com/windyroad/JUnit-Schema (element -> required
# attributes, optional ones, children in order), and the times of https://maven.apache.org/surefire (three decimals)

RULES: dict[str, tuple[set[str], set[str], str]] = {
    "testsuites": (set(), set(), r"(testsuite )*"),
    "testsuite": (
        {"name", "timestamp", "hostname", "tests", "failures", "errors", "time", "package", "id"},
        {"skipped"},
        r"properties (testcase )*system-out system-err ",
    ),
    "properties": (set(), set(), r"(property )*"),
    "property": ({"name", "value"}, set(), ""),
    "testcase": ({"name", "classname", "time"}, set(), r"((skipped|error|failure) )?"),
    "skipped": (set(), set(), ""),
    "error": ({"type"}, {"message"}, ""),
    "failure": ({"type"}, {"message"}, ""),
    "system-out": (set(), set(), ""),
    "system-err": (set(), set(), ""),
}
VALUES = {
    "time": r"[0-9]+\.[0-9]{3}",
    "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "tests": r"\d+", "failures": r"\d+", "errors": r"\d+", "skipped": r"\d+", "id": "0",
    "name": r"\S+( \S+)*", "classname": r"\S+( \S+)*", "hostname": r"\S+", "package": r"\S+",
}  # fmt: skip


def check_junit(text: str) -> ElementTree.Element:
    """Assert that the text obeys the rules above; return its suite."""
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert root.tag == "testsuites"
    for element in root.iter():
        required, optional, children = RULES[element.tag]
        assert required <= set(element.attrib) <= required | optional, element.tag
        assert re.fullmatch(children, "".join(f"{child.tag} " for child in element)), element.tag
        for name, value in element.attrib.items():
            assert re.fullmatch(VALUES.get(name, r"(?s).*"), value), (element.tag, name, value)
    (suite,) = root
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[attribute]) == len(list(suite.iter(tag)))
    return suite


@pytest.mark.parametrize("found", ALL, ids=["every verdict", "none", "one", "gone", "many"])
def test_junit_obeys_its_schema(found: Outcome) -> None:
    check_junit(junit(found))


def test_junit_says_slower_not_measured_and_open_apart() -> None:
    suite = check_junit(junit(outcome(*(cell(v, f"{v}/gemm.x", 1.2) for v in Verdict))))
    kinds = {
        case.attrib["classname"].rpartition(".")[2]: case[0].tag if len(case) else "" for case in suite.iter("testcase")
    }
    assert kinds == {
        "PASS": "", "OK": "", "IMPROVED": "", "FAIL": "failure", "MISSING": "error", "UNSTABLE": "error",
        "WRONG": "error", "INCONCLUSIVE": "skipped",
    }  # fmt: skip
    (failure,) = suite.iter("failure")
    assert failure.attrib == {"type": "FAIL", "message": "a reason"}
    assert "95 % interval: 1.14 to 1.26" in (failure.text or "")
    nothing = check_junit(junit(outcome()))
    assert nothing.attrib["errors"] == "1"


# The action's README: https://github.com/benchmark-action/github-action-benchmark


def test_benchmark_action_is_a_list_of_values_with_names_and_units() -> None:
    for found in ALL:
        entries = json.loads(render(found, "benchmark-action"), parse_constant=pytest.fail)
        for entry in entries:
            assert {"name", "unit", "value"} <= set(entry) <= {"name", "unit", "value", "range", "extra"}
            assert all(isinstance(text, str) for key, text in entry.items() if key != "value")
            assert isinstance(entry["value"], float)
            assert entry["value"] > 0
    one = cell(head_low_ms=1.9, head_high_ms=2.2)
    (entry,) = json.loads(render(outcome(one), "benchmark-action"))
    assert (entry["name"], entry["unit"], entry["value"], entry["range"]) == (one.cell, "ms", 2.0, "± 0.2")
    assert json.loads(render(outcome(gone()), "benchmark-action")) == []


# Bencher Metric Format: https://bencher.dev/docs/reference/bencher-metric-format (its JSON schema, by hand)


def test_bencher_is_a_latency_in_ns_with_bounds() -> None:
    for found in ALL:
        for name, measures in json.loads(render(found, "bencher"), parse_constant=pytest.fail).items():
            assert name
            assert set(measures) == {"latency"}
            metric = measures["latency"]
            assert {"value"} <= set(metric) <= {"value", "lower_value", "upper_value"}
            assert all(isinstance(number, float) for number in metric.values())
            assert metric.get("lower_value", 0) <= metric["value"] <= metric.get("upper_value", math.inf)
    samples = tuple(0.002 + 0.0001 * i for i in range(-5, 6))
    found = json.loads(render(outcome(cell(head_samples=samples), cell(name="a/b")), "bencher"))
    metric = found["conv3/gemm.im2col"]["latency"]
    assert metric == pytest.approx({"value": 2e6, "lower_value": 1.6e6, "upper_value": 2.4e6})
    assert found["a/b"] == {"latency": {"value": 2e6}}
    odd = json.loads(render(outcome(cell(head_low_ms=2.1, head_high_ms=2.2)), "bencher"))
    assert odd == {"conv3/gemm.im2col": {"latency": {"value": 2e6}}}


def test_json_holds_everything() -> None:
    found = json.loads(render(EVERY, "json"), parse_constant=pytest.fail)
    assert (found["kind"], found["verdict"], found["exit_code"], found["exit_code_strict"]) == ("check", "WRONG", 5, 5)
    assert len(found["cells"]) == len(EVERY.cells)
    assert [0.002, 0.0021] in [one["head_samples"] for one in found["cells"]]
    assert {"ratio", "low", "high", "detectable", "memory_ratio", "error_ratio"} <= set(found["cells"][0])
    assert json.loads(render(outcome(cell(Verdict.INCONCLUSIVE)), "json"))["exit_code_strict"] == 6


# --format


def test_forms_are_chosen_by_name_and_file(tmp_path: Path) -> None:
    assert wanted(["github", "junit=a=b.xml"]) == [("github", None), ("junit", Path("a=b.xml"))]
    for specs, words in (
        (["xml"], "--format xml is not one of github, junit"),
        (["junit="], "the name of a file is missing"),
        (["json", "junit"], "mixed on standard output"),
    ):
        with pytest.raises(GateError, match=words):
            wanted(specs)
    assert table_too([])
    assert table_too(wanted(["github", "json=x"]))
    assert not table_too(wanted(["json"]))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GateError, match="cannot write"):
        write(EVERY, [("json", tmp_path / "file" / "x.json")])
