"""The text a CUDA kernel is compiled from."""

from __future__ import annotations

from pathlib import Path

import pytest

from convbench.devices.cuda_source import constants, cuda_source
from convbench.problem import Problem
from convbench.shapes import parse_shape

PROBLEM = Problem(parse_shape("n3c6h7w9k4r3s2u2x1p1x0d1x2g2"))


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_shape_stands_in_front_as_constants(tmp_path: Path) -> None:
    source = cuda_source(write(tmp_path, "k.cu", "body\n"), PROBLEM, TILE=16)
    front, _, body = source.partition("#line 1")
    assert "using T = float;\nusing Index = int;\n" in front
    for name, value in (constants(PROBLEM) | {"TILE": 16}).items():
        assert f"constexpr int {name} = {value};\n" in front
    assert body == ' "k.cu"\nbody\n'
    assert "#define" not in source


def test_constants_name_every_number_of_the_shape() -> None:
    s = PROBLEM.shape
    assert constants(PROBLEM) == {
        "N": 3, "C": 6, "H": 7, "W": 9, "K": 4, "R": 3, "S": 2, "P": s.p, "Q": s.q,
        "STRIDE_H": 2, "STRIDE_W": 1, "PAD_H": 1, "PAD_W": 0, "DILATION_H": 1, "DILATION_W": 2, "GROUPS": 2,
    }  # fmt: skip


def test_precision_and_size_choose_the_types(tmp_path: Path) -> None:
    path = write(tmp_path, "k.cu", "")
    assert "using T = double;" in cuda_source(path, Problem(PROBLEM.shape, "float64"))
    assert "using Index = long long;" in cuda_source(path, Problem(parse_shape("n40c64h1024w1024k3r1s1")))


def test_includes_are_written_in_once_with_line_marks(tmp_path: Path) -> None:
    write(tmp_path, "inner.cuh", "#pragma once\ninner\n")
    write(tmp_path, "outer.cuh", '#pragma once\n#include "inner.cuh"\nouter\n')
    path = write(tmp_path, "k.cu", '#include <cuda_fp16.h>\n#include "outer.cuh"\n  #include "inner.cuh"\nend\n')
    _, _, body = cuda_source(path, PROBLEM).partition('#line 1 "k.cu"\n')
    assert body.splitlines() == [
        "#include <cuda_fp16.h>",
        '#line 1 "outer.cuh"', "",
        '#line 1 "inner.cuh"', "", "inner",
        '#line 3 "outer.cuh"', "outer",
        '#line 3 "k.cu"',
        '#line 4 "k.cu"', "end",
    ]  # fmt: skip


def test_an_edited_include_changes_the_text(tmp_path: Path) -> None:
    write(tmp_path, "part.cuh", "one")
    path = write(tmp_path, "k.cu", '#include "part.cuh"\n')
    before = cuda_source(path, PROBLEM)
    write(tmp_path, "part.cuh", "two")
    assert cuda_source(path, PROBLEM) != before


def test_the_text_does_not_depend_on_where_the_package_lies(tmp_path: Path) -> None:
    assert str(tmp_path) not in cuda_source(write(tmp_path, "k.cu", "body"), PROBLEM)


def test_an_unknown_include_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, "k.cu", '\n#include "absent.cuh"\n')
    with pytest.raises(FileNotFoundError, match=r'k\.cu, line 2: #include "absent\.cuh": there is no file'):
        cuda_source(path, PROBLEM)


@pytest.mark.parametrize("name", ["N", "PAD_H", "T", "Index"])
def test_a_knob_cannot_take_the_name_of_a_size(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"a knob cannot be called {name}"):
        cuda_source(write(tmp_path, "k.cu", ""), PROBLEM, **{name: 1})


def test_a_matrix_stands_in_front_exactly(tmp_path: Path) -> None:
    source = cuda_source(write(tmp_path, "k.cu", ""), PROBLEM, POINTS=((1.0, -0.1), (0.0, 1 / 3)))
    rows = "{{0x1.0000000000000p+0, -0x1.999999999999ap-4}, {0x0.0p+0, 0x1.5555555555555p-2}}"
    assert f"__device__ constexpr double POINTS[2][2] = {rows};\n" in source


@pytest.mark.parametrize("matrix", [((1.0,), (1.0, 2.0)), ((),), ()])
def test_a_matrix_has_rows_of_one_length(tmp_path: Path, matrix: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match="make no matrix"):
        cuda_source(write(tmp_path, "k.cu", ""), PROBLEM, POINTS=matrix)
