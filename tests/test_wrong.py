"""Algorithms that are wrong on purpose: each must be called wrong, or failed, with a reason, and never win."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TICK, FakeDevice, convbench, row, scripted, swept

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Missing, Plan, Unsupported
from convbench.console import best_of_families, result_table
from convbench.devices.cpu import Cpu
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.results import Row, Writer, read
from convbench.shapes import ConvShape, parse_shape
from convbench.sweep import exit_code

WORD = "n2c4h9w8k6r3s3p1g2"
Answer = Callable[[Any, Any, Any, ConvShape], None]  # x, w, y, shape


def algorithm(device: FakeDevice, answer: Answer, name: str = "mine.fast", **plan_facts: Any) -> Algorithm:
    """An algorithm that answers like this, a tick a call."""

    def plan(problem: Problem, _: Any) -> Plan:
        def run(x: Any, w: Any, y: Any) -> None:
            device.clock += TICK
            answer(x, w, y, problem.shape)

        return Plan(run, **plan_facts)

    return Algorithm(name, on={"cpu": plan})


def only_row(device: FakeDevice, *algorithms: Algorithm, shape: str = WORD, precision: str = "float32") -> Row:
    (made,) = swept(device, *algorithms, shape=shape, precision=precision)
    return made


def right(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[...] = convolve(x, w, shape)


def zeros(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[...] = 0


def one_tap_missing(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    less = w.copy()
    less[:, :, -1, -1] = 0
    right(x, less, y, shape)


def half_precision_inside(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x.astype(np.float16), w.astype(np.float16), y, shape)


def ten_bits_of_mantissa(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    def tf32(a: Any) -> Any:
        return ((a.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)

    right(tf32(x), tf32(w), y, shape)


def half_precision_outside(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[...] = convolve(x, w, shape).astype(np.float16)


def last_tile_missing(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[:, :, :8, :] = convolve(x, w, shape)[:, :, :8, :]


def last_element_missing(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y.ravel()[:-1] = convolve(x, w, shape).ravel()[:-1]


def last_image_missing(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[:-1] = convolve(x, w, shape)[:-1]


def flipped_filter(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w[:, :, ::-1, ::-1], y, shape)


def transposed_filter(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w.transpose(0, 1, 3, 2), y, shape)


def wrong_group(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(np.roll(x, shape.c // shape.groups, axis=1), w, y, shape)


def images_mixed_up(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x[::-1], w, y, shape)


def shifted_by_one(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[...] = np.roll(convolve(x, w, shape), 1, axis=3)


def one_element_off(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w, y, shape)
    y[1, 3, 4, 5] += 0.01


def a_little_too_large(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[...] = convolve(x, w, shape) * 1.0001


def overflows(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w, y, shape)
    y[0, 0, 0, 0] = np.inf


def never_writes(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    pass


def returns_instead_of_filling(x: Any, w: Any, y: Any, shape: ConvShape) -> Any:
    return convolve(x, w, shape)


def wipes_its_input(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w, y, shape)
    x[...] = 0


def nudges_one_input(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w, y, shape)
    x[0, 0, 0, 0] = np.nextafter(x[0, 0, 0, 0], np.float32(9))


def makes_its_input_nan(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w, y, shape)
    x[...] = np.nan


def changes_the_filters(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    right(x, w, y, shape)
    w[0] = 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (zeros, "error 1.0e+00 is over the bound 1e-05 for float32"),
        (one_tap_missing, "is over the bound 1e-05 for float32"),
        (half_precision_inside, "e-04 is over the bound 1e-05 for float32"),
        (ten_bits_of_mantissa, "e-04 is over the bound 1e-05 for float32"),
        (half_precision_outside, "e-04 is over the bound 1e-05 for float32"),
        (last_tile_missing, "96 of 864 outputs are not finite: run(x, w, y) must fill y"),
        (last_element_missing, "1 of 864 outputs are not finite: run(x, w, y) must fill y"),
        (last_image_missing, "432 of 864 outputs are not finite"),
        (flipped_filter, "is over the bound"),
        (transposed_filter, "is over the bound"),
        (wrong_group, "is over the bound"),
        (images_mixed_up, "is over the bound"),
        (shifted_by_one, "is over the bound"),
        (one_element_off, "is over the bound"),
        (a_little_too_large, "error 1.0e-04 is over the bound"),
        (overflows, "1 of 864 outputs are not finite"),
        (never_writes, "864 of 864 outputs are not finite: run(x, w, y) must fill y"),
        (returns_instead_of_filling, "864 of 864 outputs are not finite: run(x, w, y) must fill y"),
        (wipes_its_input, "it changed its input x"),
        (nudges_one_input, "it changed its input x"),
        (makes_its_input_nan, "it changed its input x"),
        (changes_the_filters, "it changed its input w"),
    ],
)
def test_wrong_answers(answer: Answer, reason: str) -> None:
    device = FakeDevice()
    made = only_row(device, algorithm(device, answer))
    assert made.status == "wrong"
    assert reason in made.note
    assert exit_code([made, row()]) == 5


def test_single_precision_inside_double_is_wrong() -> None:
    def single(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
        y[...] = convolve(x, w, shape).astype(np.float32)

    device = FakeDevice()
    made = only_row(device, algorithm(device, single), precision="float64")
    assert made.status == "wrong"
    assert "is over the bound 1e-12 for float64" in made.note


def test_a_right_one_is_ok_and_a_wrong_neighbour_does_not_spoil_it() -> None:
    device = FakeDevice()
    answers = (wipes_its_input, right, changes_the_filters, makes_its_input_nan)
    made = swept(device, *(algorithm(device, a, f"mine.{a.__name__}") for a in answers), shape=WORD)
    assert {r.algo: r.status for r in made if r.algo == "mine.right"} == {"mine.right": "ok"}
    assert sorted(r.status for r in made) == ["ok", "wrong", "wrong", "wrong"]


def test_a_sum_that_cancels_does_not_make_honest_rounding_wrong() -> None:
    """A single output of -0.002, the sum of terms of order one: an error of 5e-8 is honest single precision."""
    data = operands(Problem(parse_shape("n1c3h13w1k1r5s1u3d3")), device := Cpu(1), 0)
    for each in built_in():
        case = open_case(each, data, device, "hot", weigh=False)
        if case.status in ("skipped", "unsupported"):
            continue
        assert case.status == "ok", f"{each.name}: {case.note}"


# Wrong later


@pytest.mark.parametrize("good_calls", [1, 2, 5, 20])
def test_right_in_the_first_call_and_wrong_later(good_calls: int) -> None:
    calls = 0

    def tires(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
        nonlocal calls
        calls += 1
        right(x, w, y, shape)
        if calls > good_calls + 1:  # the weighing is a call, too
            y[...] = 0

    device = FakeDevice()
    made = only_row(device, algorithm(device, tires))
    assert made.status == "wrong"
    assert "right in the first call, wrong after the timed ones" in made.note


def test_a_remembered_answer_is_no_answer() -> None:
    """It computes once and copies ever after, which is quick, and right as long as nobody changes x."""
    memory: list[Any] = []

    def remembers(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
        if not memory:
            memory.append(convolve(x, w, shape))
        y[...] = memory[0]

    device = FakeDevice()
    assert only_row(device, algorithm(device, remembers)).status == "wrong"


def test_work_that_is_skipped_once_y_is_full_is_no_work() -> None:
    def lazy(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
        if np.isnan(y.ravel()[0]):
            right(x, w, y, shape)

    device = FakeDevice()
    assert only_row(device, algorithm(device, lazy)).status == "wrong"


def test_the_culprit_is_blamed_and_not_its_neighbour() -> None:
    """One that changes x only while it is timed: others are timed, and finish, in between."""
    calls = 0

    def later(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
        nonlocal calls
        calls += 1
        right(x, w, y, shape)
        if calls > 2:
            x[...] = calls

    device = FakeDevice()
    innocents = [algorithm(device, right, f"mine.innocent{i}") for i in range(3)]
    made = {r.algo: r for r in swept(device, algorithm(device, later, "mine.culprit"), *innocents, shape=WORD)}
    assert made["mine.culprit"].status == "wrong"
    assert "it changed its input x" in made["mine.culprit"].note
    assert {made[innocent.name].status for innocent in innocents} == {"ok"}


# Failed


def raising(error: BaseException) -> Callable[..., Any]:
    def raise_it(*_: Any) -> Any:
        raise error

    return raise_it


def fine(*_: Any) -> Plan:
    return Plan(run=lambda x, w, y: None)


FAILURES: list[tuple[Any, str]] = [
    (raising(ValueError("no such tile")), "ValueError: no such tile"),
    (raising(MemoryError()), "out of memory: no details"),
    (raising(MemoryError("Unable to allocate 9 TiB")), "out of memory: Unable to allocate 9 TiB"),
    (raising(RecursionError("too deep")), "RecursionError: too deep"),
    (raising(AssertionError()), "AssertionError"),
    (raising(KeyError("x")), "KeyError: 'x'"),
    (raising(RuntimeError("two\nlines\tand  blanks")), "RuntimeError: two lines and blanks"),
    (raising(SystemExit(0)), "SystemExit"),
    (lambda problem, device: None, "TypeError: the plan function of mine.fast returned NoneType, not a Plan"),
    (
        lambda problem, device: lambda x, w, y: None,
        "TypeError: the plan function of mine.fast returned function, not a Plan",
    ),
    (lambda problem: Plan(run=lambda x, w, y: None), "TypeError: "),
    (5, "TypeError: "),
    (lambda problem, device: Plan(run=None), "TypeError: "),  # type: ignore[arg-type]
    (lambda problem, device: Plan(run=lambda x, w: None), "TypeError: "),  # type: ignore[misc,arg-type]
    (lambda problem, device: Plan(run=raising(OSError("run"))), "OSError: run"),
    (lambda problem, device: Plan(run=raising(MemoryError("run"))), "out of memory: run"),
    (lambda problem, device: Plan(run=raising(SystemExit(0))), "SystemExit"),
    (lambda problem, device: Plan(fine, prepare=raising(OSError("prepare"))), "OSError: prepare"),
    (lambda problem, device: Plan(fine, prepare=raising(MemoryError("prepare"))), "out of memory: prepare"),
]


@pytest.mark.parametrize(("plan", "reason"), FAILURES)
def test_failures(plan: Any, reason: str) -> None:
    made = only_row(FakeDevice(), Algorithm("mine.fast", on={"cpu": plan}))
    assert made.status == "failed"
    assert made.note.startswith(reason)
    assert "\n" not in made.note
    assert made.time_ms is None
    assert exit_code([made, row()]) == 4


def test_refusals() -> None:
    for refusing, status, note in (
        (Algorithm("a.b", on={"cpu": raising(Unsupported("needs stride 1"))}), "unsupported", "needs stride 1"),
        (Algorithm("a.b", on={"cpu": fine}, refuses=lambda problem: "only 3 x 3"), "unsupported", "only 3 x 3"),
        (Algorithm("a.b", on={"cpu": raising(Missing("pip install torch"))}), "skipped", "pip install torch"),
        (Algorithm("a.b", on={"cuda": fine}), "unsupported", "a.b has no code for the cpu, only for cuda"),
        (Algorithm("a.b", on={"cpu": fine}, refuses=raising(ValueError("v"))), "failed", "ValueError: v"),
    ):
        made = only_row(FakeDevice(), refusing)
        assert (made.status, made.note) == (status, note)


def test_a_note_is_kept_beside_the_reason() -> None:
    device = FakeDevice()
    made = only_row(device, algorithm(device, zeros, note="tiles of 4"))
    assert made.note.startswith("tiles of 4; error 1.0e+00 is over")


@pytest.mark.parametrize(
    "facts",
    [
        {"note": None}, {"note": 5}, {"note": "lone \udc80"}, {"note": "a\rb\nc,\"d\""}, {"workspace": "lots"},
        {"workspace": None}, {"workspace": 1e6}, {"workspace": np.float64(8)}, {"workspace": np.int64(8)},
        {"workspace": -1}, {"prepare": None},
    ],
)  # fmt: skip
def test_what_a_plan_says_of_itself_never_breaks_the_run_or_the_file(tmp_path: Path, facts: dict[str, Any]) -> None:
    """A row, whatever its status, and a file that can be read."""
    device = FakeDevice()
    odd = algorithm(device, right, "mine.odd", **facts)
    writer = Writer(tmp_path / "x.csv")
    for made in swept(device, odd, algorithm(device, right, "mine.plain"), shape=WORD):
        writer.add(made)
    back = {r.algo: r for r in read(tmp_path / "x.csv")}
    assert back["mine.plain"].status == "ok"
    assert back["mine.odd"].status in ("ok", "failed")


def test_a_name_or_tolerance_of_ones_own_does_not_break_the_run() -> None:
    device = FakeDevice()
    plain = algorithm(device, right)
    lenient = Algorithm("mine.lenient", on=algorithm(device, half_precision_inside).on, tolerance={"float32": 1e-3})
    odd = Algorithm("mine.odd", on=plain.on, tolerance={"float32": "much"})  # type: ignore[dict-item]
    nan = Algorithm("mine.nan", on=plain.on, tolerance={"float32": float("nan")})
    status = {r.algo: r.status for r in swept(device, plain, lenient, odd, nan, shape=WORD)}
    assert status == {"mine.fast": "ok", "mine.lenient": "ok", "mine.odd": "failed", "mine.nan": "wrong"}


# Ranking


def test_a_wrong_one_is_never_the_best() -> None:
    wrong = row(algo="gemm.cheat", status="wrong", time_ms=0.001, gflops=1e6)
    failed = row(algo="gemm.broken", status="failed", time_ms=0.001)
    good = row(algo="gemm.im2col", time_ms=5.0)
    other = row(algo="fft.full", status="wrong", time_ms=0.001)
    for rows in ([wrong, failed, good, other], [good, other, failed, wrong]):
        best = best_of_families(rows)
        assert {r.algo for r in best} == {"gemm.im2col", "fft.full"}
        names = list(result_table(rows).columns[1].cells)
        assert "gemm.im2col *" in names
        assert "fft.full" in names


def test_without_a_right_one_nobody_wins() -> None:
    table = result_table([row(status="wrong", time_ms=0.1), row(algo="fft.full", status="failed", time_ms=None)])
    assert not any(str(cell).endswith("*") for cell in table.columns[1].cells)


# The command's exit code

PLUGIN = """
from convbench import Algorithm, Plan
from convbench.reference import convolve

def plan(problem, device):
    def right(x, w, y):
        y[...] = convolve(x, w, problem.shape)
    def zeros(x, w, y):
        y[...] = 0
    def raises(x, w, y):
        raise RuntimeError("on purpose")
    def leaves(x, w, y):
        raise SystemExit(0)
    return Plan(run={answer})

ALGORITHMS = [Algorithm("gemm.mine", on={{"cpu": plan}})]
"""


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        ("right", 0, ""),
        ("zeros", 5, "is over the bound"),
        ("raises", 4, "RuntimeError: on purpose"),
        ("leaves", 4, "SystemExit"),
    ],
)
def test_exit_codes(tmp_path: Path, command: str, answer: str, code: int, text: str) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(answer=answer))
    net = tmp_path / "net.toml"
    net.write_text('[[layer]]\nname = "tiny"\nc = 2\nh = 5\nw = 5\nk = 3\nr = 3\ns = 3\n')
    words = [command, "--device", "cpu", "--net", str(net), "--algo", "gemm.mine,gemm.im2col", "--plugin", str(plugin)]
    words += ["--out", str(tmp_path / "x.csv"), "--budget", "0.01"] if command == "run" else ["--shapes", "1"]
    done = convbench(*words)
    assert done.code == code, done.err
    assert text in " ".join(done.out.split())
    assert done.err == ""
    if command == "run":
        status = {"right": "ok", "zeros": "wrong"}.get(answer, "failed")
        assert {r.algo: r.status for r in read(tmp_path / "x.csv")} == {"gemm.im2col": "ok", "gemm.mine": status}
        if code:
            assert "gemm.im2col *" in done.out
            assert "gemm.mine *" not in done.out


def test_exit_codes_have_an_order() -> None:
    ok, wrong, failed, skipped = (row(status=s) for s in ("ok", "wrong", "failed", "skipped"))
    unsupported, timeout, unstable = (row(status=s) for s in ("unsupported", "timeout", "unstable"))
    assert exit_code([ok]) == exit_code([ok, unsupported, skipped]) == 0
    assert exit_code([ok, failed]) == exit_code([ok, timeout]) == exit_code([ok, unstable]) == 4
    assert exit_code([]) == exit_code([skipped]) == exit_code([unsupported]) == 4
    assert exit_code([ok, failed, wrong]) == exit_code([wrong]) == 5


def test_a_scripted_right_answer_is_ok() -> None:
    """The fakes themselves are honest."""
    device = FakeDevice()
    (made,) = swept(device, scripted(device, "a.b", TICK))
    assert (made.status, made.note, made.samples, made.time_ms, made.converged) == ("ok", "", 15, 1e3 * TICK, True)
