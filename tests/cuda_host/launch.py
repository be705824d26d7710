"""HostKernel: a kernel launch on NumPy arrays, each copied to where the page after (or before) it is not mapped."""

from __future__ import annotations

import ctypes
import re
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cuda_host.guarded import GUARD_BYTES, Guarded, Region, address_of

if TYPE_CHECKING:
    from cuda_host.module import HostModule

USUAL_SHARED = 48 << 10  # bytes a block may have without max_dynamic_shared_size_bytes
CPU_SECONDS = 20  # that a launch may take before the watchdog ends it
MESSAGE_BYTES = 1 << 14
_lock = threading.Lock()  # fibers, stacks and signal handlers are one set for the process


class KernelError(Exception):
    """A kernel did what it must not do; the text says what, where (file:line) and in which thread."""


class LaunchError(Exception):
    """A launch that no GPU takes: sizes, shared memory, arguments that overlap."""


class _Launch(ctypes.Structure):
    """struct Launch of launch.hpp."""

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_bytes", ctypes.c_uint),
        ("seed", ctypes.c_uint),
        ("cpu_microseconds", ctypes.c_uint),
        ("region_count", ctypes.c_uint),
        ("regions", ctypes.c_void_p),
        ("arena", ctypes.c_void_p),
        ("message", ctypes.c_void_p),
        ("message_bytes", ctypes.c_size_t),
        ("fault", ctypes.c_size_t * 18),
    ]


_arena = (ctypes.c_void_p * 8)()


@dataclass(frozen=True)
class Parameter:
    """What a kernel takes in one place: kind is NumPy's (f, i, b; V for a struct), of the target if it is a pointer."""

    pointer: bool
    constant: bool
    kind: str
    bytes: int

    def accepts(self, value: Any) -> bool:
        """CuPy passes the bytes it is given: whether they mean what the kernel reads."""
        if self.pointer:
            if not isinstance(value, np.ndarray) or not value.flags.c_contiguous:
                return False
            if self.kind == "f":
                number = value.real.dtype  # float* may point to complex numbers
                return number.kind == "f" and number.itemsize == self.bytes
            return True
        if isinstance(value, np.generic):
            kind = "i" if value.dtype.kind in "iu" else value.dtype.kind
            return kind == self.kind and value.dtype.itemsize == self.bytes
        usual = {bool: ("b", 1), int: ("i", 8), float: ("f", 8)}  # as CuPy passes Python's numbers
        return usual.get(type(value)) == (self.kind, self.bytes)

    def __str__(self) -> str:
        return f"{'const ' * self.constant}{'*' * self.pointer}{self.kind}{self.bytes}"


def _parameters(text: str) -> tuple[Parameter, ...]:
    words = (re.fullmatch(r"(const)?(\*)?([fibV])(\d+)", word) for word in text.split())
    return tuple(Parameter(bool(w[2]), bool(w[1]), w[3], int(w[4])) for w in words if w)


class HostKernel:
    """A kernel of a HostModule. `seed` is the order threads run in, `guard` the side ("end", "start") arrays touch."""

    def __init__(self, module: HostModule, name: str) -> None:
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = 0  # as CuPy's: more than the usual must be asked for
        library = module.library
        self._call = ctypes.cast(getattr(library, f"cuda_host_call_{name}"), ctypes.c_void_p).value
        text = ctypes.create_string_buffer(1024)
        getattr(library, f"cuda_host_describe_{name}")(text)
        self.parameters = _parameters(text.value.decode())
        self.declared = module.parameters_of(name)
        self.most_threads = getattr(library, f"cuda_host_bounds_{name}")() or 1024

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared_mem: int = 0,
        *,
        seed: int = 0,
        guard: str = "end",
        cpu_seconds: float = CPU_SECONDS,
        follows: Sequence[Any] | None = None,
    ) -> None:
        """Runs every block. Raises KernelError, LaunchError, or TypeError for an argument.

        follows: what the launch before wrote, which a block finds hidden until it waits, as it does what it writes.
        """
        sizes = [tuple(int(n) for n in (*size, 1, 1)[:3]) for size in (grid, block)]
        self._check_sizes(sizes[0], sizes[1], shared_mem)
        self._check_arguments(arguments)
        if follows is not None:
            self._check_following(arguments, follows)
        with _lock:
            guards = self._guards(arguments, guard == "end")
            slots = [self._slot(argument, guards) for argument in arguments]
            pointers = (ctypes.c_void_p * max(len(slots), 1))(*(ctypes.addressof(slot) for slot in slots))
            hidden = [follows is not None and (not g.read_only or overlaps(g.array, follows)) for g in guards.values()]
            described = (held.region(hides) for held, hides in zip(guards.values(), hidden, strict=True))
            regions = (Region * max(len(guards), 1))(*described)
            message = ctypes.create_string_buffer(MESSAGE_BYTES)
            launch = _Launch(
                self._call, ctypes.addressof(pointers), sizes[0], sizes[1], shared_mem, seed, int(cpu_seconds * 1e6),
                len(guards), ctypes.addressof(regions), ctypes.addressof(_arena), ctypes.addressof(message),
                MESSAGE_BYTES,
            )  # fmt: skip
            failed = self.module.library.cuda_host_launch(ctypes.byref(launch))
            text = self._explained(message.value.decode(), list(launch.fault), arguments, guards) if failed else ""
            clean = [held.finish() for held in guards.values()]
        if failed:
            raise KernelError(f"{self.name}: {text}")
        for (address, _), ok in zip(guards, clean, strict=True):
            if not ok:
                raise KernelError(f"{self.name}: write outside {self._which(address, arguments)}")

    def _check_sizes(self, grid: tuple[int, ...], block: tuple[int, ...], shared_mem: int) -> None:
        threads = block[0] * block[1] * block[2]
        if not (1 <= threads <= 1024 and 1 <= block[2] <= 64):
            raise LaunchError(f"{self.name}: a block of {block} threads")
        if threads > self.most_threads:
            raise LaunchError(f"{self.name}: {threads} threads a block, its __launch_bounds__ are {self.most_threads}")
        if not (1 <= grid[0] < 1 << 31 and 1 <= grid[1] < 1 << 16 and 1 <= grid[2] < 1 << 16):
            raise LaunchError(f"{self.name}: a grid of {grid} blocks")
        static, limit = self.module.static_bytes, self.module.shared_limit
        if static > USUAL_SHARED:
            raise LaunchError(f"{self.name}: {static} bytes of static shared memory, more than {USUAL_SHARED}")
        allowed = self.max_dynamic_shared_size_bytes or USUAL_SHARED - static
        if shared_mem > allowed:
            raise LaunchError(
                f"{self.name}: {shared_mem} bytes of dynamic shared memory, max_dynamic_shared_size_bytes is {allowed}"
            )
        if static + max(shared_mem, self.max_dynamic_shared_size_bytes) > limit:
            raise LaunchError(f"{self.name}: more shared memory than the {limit} bytes of this GPU")

    def _check_arguments(self, arguments: Sequence[Any]) -> None:
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, not {len(arguments)}")
        for i, (parameter, value) in enumerate(zip(self.parameters, arguments, strict=True)):
            if not parameter.accepts(value):
                given = getattr(value, "dtype", type(value).__name__)
                layout = "" if getattr(getattr(value, "flags", None), "c_contiguous", True) else ", not contiguous"
                raise TypeError(f"argument {i} of {self.name}: {given}{layout} given where the kernel has {parameter}")

    def _check_following(self, arguments: Sequence[Any], written: Sequence[Any]) -> None:
        """The compiler may move loads through const __restrict__ pointers in front of the wait."""
        for parameter, declared, value in zip(self.parameters, self.declared, arguments, strict=True):
            if parameter.constant and "__restrict__" in declared and overlaps(value, written):
                raise LaunchError(f"{self.name}: the launch before writes what '{declared}' points to")

    def _guards(self, arguments: Sequence[Any], at_end: bool) -> dict[tuple[int, int], Guarded]:
        """Each different array once; read-only if every parameter that gets it is const."""
        constant: dict[tuple[int, int], bool] = {}
        arrays = {}
        for parameter, array in zip(self.parameters, arguments, strict=True):
            if parameter.pointer:
                key = address_of(array), array.nbytes
                arrays[key] = array
                constant[key] = constant.get(key, True) and parameter.constant
        ordered = sorted(arrays)
        for one, other in pairwise(ordered):
            if one[0] + one[1] > other[0] and not (constant[one] and constant[other]):
                names = (self._which(key[0], arguments) for key in (one, other))
                raise LaunchError(f"{self.name}: {' and '.join(names)} overlap")
        return {key: Guarded(array, at_end, constant[key]) for key, array in arrays.items()}

    def _slot(self, argument: Any, guards: dict[tuple[int, int], Guarded]) -> Any:
        """The argument as the bytes the kernel gets."""
        if isinstance(argument, np.ndarray):
            return ctypes.c_void_p(guards[address_of(argument), argument.nbytes].address)
        raw = np.asarray(argument).tobytes()
        return (ctypes.c_char * len(raw)).from_buffer_copy(raw)

    def _which(self, address: int, arguments: Sequence[Any]) -> str:
        for i, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray) and address_of(argument) == address:
                return f"argument {i} ({argument.dtype}{list(argument.shape)})"
        return "an argument"

    def _explained(self, text: str, fault: list[int], arguments: Sequence[Any], guards: Any) -> str:
        """The message with places as file:line, and for a fault the array it was near."""
        if calls := [call for call in fault[1:] if call]:
            text += f" at {place_of(self.module.path, calls)}"
        for (address, _), held in guards.items():
            if held.reserved <= fault[0] < held.reserved + held.mapped_bytes + 2 * GUARD_BYTES:
                byte = fault[0] - held.address
                kind = ", which is const" if held.read_only and 0 <= byte < held.array.nbytes else ""
                text += f": byte {byte} of {held.array.nbytes} of {self._which(address, arguments)}{kind}"
        return re.sub("@([0-9a-f]+)@", lambda match: place_of(self.module.path, [int(match[1], 16)]), text)


def overlaps(array: Any, others: Sequence[Any]) -> bool:
    """Whether it shares memory with one of the others."""
    return any(np.may_share_memory(array, other) for other in others)


def place_of(library: Path, calls: Sequence[int]) -> str:
    """file:line of the innermost of these addresses, and "from" where it was inlined or called, outside this bench."""
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(library) in line]
    low, high = int(maps[0].split("-")[0], 16), int(maps[-1].split("-")[1].split()[0], 16)
    inside = [hex(call - low) for call in calls if low <= call < high]
    command = ["addr2line", "--inlines", "--exe", str(library), *inside]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    places: list[str] = []
    for line in lines:
        place = Path(line.split(" ")[0]).name
        if not place.startswith("?") and ".hpp:" not in place and "unit.cpp" not in place and place not in places:
            places.append(place)
    return " from ".join(places[:3]) or "an unknown line"
