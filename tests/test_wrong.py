"""Algorithms that are wrong on purpose: each must be called wrong, with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from answers import WORD, Answer, algorithm, only_row, right
from fakes import FakeDevice, row, swept

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.devices.cpu import Cpu
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape, parse_shape
from convbench.sweep import exit_code


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


def test_a_note_is_kept_beside_the_reason() -> None:
    device = FakeDevice()
    made = only_row(device, algorithm(device, zeros, note="tiles of 4"))
    assert made.note.startswith("tiles of 4; error 1.0e+00 is over")


def test_a_name_or_tolerance_of_ones_own_does_not_break_the_run() -> None:
    device = FakeDevice()
    plain = algorithm(device, right)
    lenient = Algorithm("mine.lenient", on=algorithm(device, half_precision_inside).on, tolerance={"float32": 1e-3})
    odd = Algorithm("mine.odd", on=plain.on, tolerance={"float32": "much"})  # type: ignore[dict-item]
    nan = Algorithm("mine.nan", on=plain.on, tolerance={"float32": float("nan")})
    status = {r.algo: r.status for r in swept(device, plain, lenient, odd, nan, shape=WORD)}
    assert status == {"mine.fast": "ok", "mine.lenient": "ok", "mine.odd": "failed", "mine.nan": "wrong"}


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
