"""The columns of a results file: the dataclass Row, and how a value stands in a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

FOREIGN = "not a convbench results file of this version"
FAMILIES = ("gemm", "fft", "winograd", "direct", "library")  # their order in tables and charts; others by name
STATUSES = ("ok", "unsupported", "skipped", "wrong", "failed", "timeout", "unstable")
SAMPLE_COLUMNS = ("run", "layer", "shape", "direction", "algo", "device", "precision", "threads", "cache",
                  "process", "round", "loops", "seconds", "disturbed")  # fmt: skip


class ResultsError(Exception):
    """A results file that cannot be used; the text names file, line, column and reason."""

    code = 2  # the command's exit code: usage


class NotWritten(ResultsError):
    """A row that could not be written, as the disk is full or gone."""

    code = 1


def _column(doc: str, later: bool = False) -> Any:
    """later: added since results were first kept, so that a file may lack it."""
    return field(metadata={"doc": doc, "later": later})


@dataclass(frozen=True)
class Row:
    """One case: what was asked, what came out, and where. A number that does not apply is None, an empty cell."""

    run: str = _column("name of the run: UTC time and process, the same in all rows of one command")
    when: str = _column("UTC time at which the row was written, ISO 8601")
    net: str = _column("layer set: `alexnet`, a file's name, or `shape`")
    layer: str = _column("layer's name within the set; the shape word for --shape")
    shape: str = _column("the whole convolution as one word, to be given back to `convbench run --shape`")
    direction: str = _column("`forward`")
    algo: str = _column("algorithm, `family.variant`")
    device: str = _column("`cpu` or `cuda`")
    precision: str = _column(
        "of x, w and y: `float32`, `float64`, `float16`; `tf32`: float32 arrays, products of 10 bits"
    )
    batch: int = _column("images, N")
    threads: int = _column("CPU threads every algorithm was given")
    cache: str = _column("`hot`: operands stay where the call before left them; `cold`: evicted or flushed before each")
    seed: int = _column("of the random operands, to be given back to --seed")
    status: str = _column(
        "`ok`, `unsupported`, `skipped`, `wrong`, `failed`, `timeout` or `unstable`; only `ok` is ranked"
    )
    note: str = _column("which code ran; the reason where the status is not `ok`")
    time_ms: float | None = _column("ms a call: median of the samples (below 50 us on CUDA the 20 % trimmed mean)")
    time_lo_ms: float | None = _column("ms: lower end of the median's 95 % interval (order statistics)")
    time_hi_ms: float | None = _column("ms: upper end of it")
    time_q1_ms: float | None = _column("ms: first quartile")
    time_q3_ms: float | None = _column("ms: third quartile")
    time_min_ms: float | None = _column("ms: least sample")
    samples: int | None = _column("samples taken; they are in `<name>.samples.csv`")
    loops: int | None = _column("calls a sample")
    outliers: int | None = _column("samples beyond Tukey's fences; counted, not dropped")
    disturbed: int | None = _column(
        "samples from which the hypervisor or another process took time (CUDA: launches exposed, or clocks held down); "
        "counted, not dropped"
    )
    converged: bool | None = _column("`true` where the interval's half-width is at most 1 % of the median")
    first_ms: float | None = _column("ms: planning and the first call, compiling included")
    prepare_ms: float | None = _column("ms: transforming or packing the filters, once")
    time_hot_ms: float | None = _column("ms a call back to back with warm caches (CUDA only)")
    phases: str = _column(
        "ms of each phase, `name=ms;name=ms`: medians of calls of their own, apart from the samples (--phases only)",
        later=True,
    )
    enqueue_ms: float | None = _column("ms the host needs to launch one call, median (CUDA only)")
    sm_mhz: float | None = _column("MHz of the GPU's processors while it was timed, median (CUDA only)")
    joule: float | None = _column("J a call, where the GPU reports it (CUDA only)")
    gflop: float | None = _column(
        "10^9 nominal FLOPs a call, 2 N K P Q (C/g) R S, padding counted, for every algorithm"
    )
    gflop_true: float | None = _column("10^9 FLOPs without the taps that fall on padding")
    gflop_executed: float | None = _column(
        "10^9 FLOPs the algorithm itself executes in a call, 2 a multiply-add; empty where it does not say", later=True
    )
    gflops: float | None = _column("effective GFLOP/s: gflop / time")
    percent_of_peak: float | None = _column("gflops in % of a large matrix product's rate, measured in the same run")
    bytes_min: int | None = _column("bytes of x, w and y, each moved once")
    gbs: float | None = _column("effective GB/s: bytes_min / time")
    ceiling_gflops: float | None = _column(
        "GFLOP/s of multiply-adds on registers, measured in the same run (where not known: of the matrix product)",
        later=True,
    )
    ceiling_gbs: float | None = _column(
        "GB/s from memory, measured in the same run: reading two to four times the last-level cache (CUDA: copying)",
        later=True,
    )
    workspace_bytes: int | None = _column("bytes the plan says it needs beyond x, w, y and the prepared filters")
    prepared_bytes: int | None = _column("bytes of the prepared filters (0: it uses w as it is)")
    peak_bytes: int | None = _column(
        "bytes measured beyond x, w and y at the worst moment of planning, preparing and one call"
    )
    error: float | None = _column(
        "||y - ref|| / ||ref|| against float64 (up to 64 outputs: over the norm random signs would give, if larger)"
    )
    error_max: float | None = _column("max |y - ref| / max |ref|")
    hardware: str = _column("model of the CPU or GPU")
    os: str = _column("system, release, architecture")
    python: str = _column("version")
    numpy: str = _column("version")
    blas: str = _column("library NumPy calls, version, kernels it chose")
    cupy: str = _column("version (CUDA only)")
    cuda: str = _column("version of the CUDA runtime (CUDA only)")
    driver: str = _column("version of the CUDA driver (CUDA only)")
    convbench: str = _column("version")
    commit: str = _column("commit of the checkout, `+` where files differed from it; empty for an installed package")

    @property
    def family(self) -> str:
        """The algorithm's family."""
        return self.algo.partition(".")[0]

    @property
    def peak_gflops(self) -> float | None:
        """The measured ceiling that percent_of_peak refers to, GFLOP/s."""
        if not self.gflops or not self.percent_of_peak:
            return None
        return 100 * self.gflops / self.percent_of_peak

    @property
    def phase_ms(self) -> dict[str, float]:
        """The phases by name, ms, in order."""
        return parse_phases(self.phases)


COLUMNS = tuple(f.name for f in fields(Row))
LATER = frozenset(f.name for f in fields(Row) if f.metadata["later"])
TYPES: dict[str, Any] = get_type_hints(Row)


def cell(value: Any) -> str:
    """A value as it stands in the file: floats in full, None empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(value)


def phases_cell(phases: Mapping[str, float]) -> str:
    """Phases (ms by name) as they stand in a cell."""
    return ";".join(f"{name}={ms:.6g}" for name, ms in phases.items())


def parse_phases(text: str) -> dict[str, float]:
    """The inverse. Raises ValueError with the reason."""
    found = {}
    for part in filter(None, text.split(";")):
        name, _, ms = part.partition("=")
        try:
            found[name] = float(ms)
        except ValueError:
            raise ValueError(f"'{part[:40]}' is not name=ms") from None
    return found


def header_difference(found: Sequence[str], header: Sequence[str]) -> str:
    """What makes a header another one than ours."""
    for number, (got, wanted) in enumerate(zip(found, header, strict=False), 1):
        if got != wanted:
            return f"column {number} is {got[:40]!r} where '{wanted}' belongs: {FOREIGN}"
    return f"{len(found)} columns instead of {len(header)}: {FOREIGN}"
