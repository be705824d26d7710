"""Which cuDNN is taken: a path of one's own, the wheel's, PyTorch's or the system's, of either version, or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cudnn_on_host import CUDNN, ODD, OLD, PLAIN, WITHOUT_FORWARD, Fake, GpuOnHost, StreamDevice, check, compiled
from fakes import swept

from convbench.algorithms.base import Missing, Unsupported
from convbench.algorithms.library import cudnn, cudnn_api
from convbench.problem import Problem
from convbench.shapes import parse_shape


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(cudnn_api.ENVIRONMENT, raising=False)
    monkeypatch.setattr(cudnn_api, "_folders_of", lambda package: [])
    monkeypatch.setattr(cudnn_api, "NAMES", ("libno-such-cudnn.so.9",))
    cudnn_api.load.cache_clear()
    yield
    cudnn_api.load.cache_clear()


@pytest.mark.usefixtures("nothing_found")
def test_without_cudnn_its_rows_are_skipped() -> None:
    rows = swept(GpuOnHost(), *CUDNN.values(), shape=PLAIN)
    assert {(row.status, row.note) for row in rows} == {("skipped", cudnn_api.INSTALL)}
    assert "pip install nvidia-cudnn-cu13" in cudnn_api.INSTALL


def test_a_path_that_is_no_cudnn_is_named(cudnn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, reason in (
        (cudnn_folder / "libabsent.so", "cannot open shared object file"),
        (compiled(cudnn_folder, WITHOUT_FORWARD), "undefined symbol: cudnnConvolutionForward"),
    ):
        monkeypatch.setenv(cudnn_api.ENVIRONMENT, str(path))
        with pytest.raises(Missing, match=f"^CONVBENCH_CUDNN: {path} cannot be used as cuDNN 8 or 9: .*{reason}"):
            cudnn_api.chosen()


@pytest.mark.usefixtures("nothing_found")
def test_the_wheel_comes_first_then_pytorchs_folder(cudnn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"nvidia.cudnn": cudnn_folder / "wheel", "torch": cudnn_folder / "torch"}
    for place in places.values():
        (place / "lib").mkdir(parents=True)
    monkeypatch.setattr(cudnn_api, "_folders_of", lambda package: [str(places[package])])
    monkeypatch.setattr(cudnn_api, "NAMES", ("libfake.so.9", "libfake.so.8"))
    broken, good = (place / "lib" / "libfake.so.8" for place in places.values())
    broken.write_text("no library")
    good.write_bytes(compiled(cudnn_folder, OLD).read_bytes())
    assert list(cudnn_api.candidates()) == [str(broken), str(good), "libfake.so.9", "libfake.so.8"]
    assert cudnn_api.chosen().version == "8.9.7", "one that cannot be used is passed over"
    good.unlink()
    cudnn_api.load.cache_clear()
    with pytest.raises(Missing, match=f"^{broken} cannot be used as cuDNN 8 or 9"):
        cudnn_api.chosen()


def test_packages_are_found_without_being_imported() -> None:
    assert cudnn_api._folders_of("no_such_package.cudnn") == cudnn_api._folders_of("no_such_package") == []
    (place,) = cudnn_api._folders_of("convbench.algorithms")
    assert Path(place) == Path(cudnn.__file__).parent.parent


def test_cudnn_8(cudnn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(compiled(cudnn_folder, OLD))
    monkeypatch.setenv(cudnn_api.ENVIRONMENT, str(fake.path))
    check("gemm", parse_shape(ODD), "float32", fake)
    plan_of = CUDNN["fft"].on["cuda"]
    with pytest.raises(Unsupported, match=r"^cuDNN: CUDNN_STATUS_NOT_SUPPORTED \(9\) in \w+$"):
        plan_of(Problem(parse_shape(ODD)), StreamDevice())  # type: ignore[arg-type]
    fake.fail("cudnnSetStream", 9)
    with pytest.raises(Unsupported):
        plan_of(Problem(parse_shape(PLAIN)), StreamDevice())  # type: ignore[arg-type]
    fake.reset()


@pytest.mark.parametrize(("number", "text"), [(92801, "9.28.1"), (90100, "9.1.0"), (91900, "9.19.0"), (8907, "8.9.7")])
def test_versions(number: int, text: str) -> None:
    assert cudnn_api.version_of(number) == text
