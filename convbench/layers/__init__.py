"""Layer sets: TOML files that name convolutions, the built-in ones and a user's own by the same reader."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convbench.shapes import ConvShape, Pair, ShapeError

HERE = Path(__file__).parent


class LayerError(Exception):
    """A layer set that cannot be read; the text says file, line and reason."""


@dataclass(frozen=True)
class Pool:
    """The max pooling that follows a layer: window and stride."""

    size: int
    stride: int

    def output(self, length: int) -> int:
        """Elements left of `length`."""
        return (length - self.size) // self.stride + 1


@dataclass(frozen=True)
class Layer:
    """A named convolution for one image, what follows it, and a remark for `convbench info`."""

    name: str
    shape: ConvShape
    pool: Pool | None = None
    about: str = ""


@dataclass(frozen=True)
class Net:
    """A layer set."""

    name: str
    layers: tuple[Layer, ...]
    about: str = ""


SIZES = ("c", "h", "w", "k", "r", "s")
PAIRS = {"stride": (1, 1), "pad": (0, 0), "dilation": (1, 1)}
LAYER_KEYS = {"name", *SIZES, *PAIRS, "groups", "pool", "about"}


def built_in() -> list[str]:
    """Names of the layer sets that come with convbench."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def load(name: str) -> Net:
    """A built-in layer set by name, or any TOML file by path. Raises LayerError."""
    path = HERE / f"{name}.toml"
    if name not in built_in():
        path = Path(name)
        if not path.is_file():
            known = ", ".join(built_in())
            raise LayerError(
                f"no layer set '{name}': neither built in ({known}) nor a file; give a path to a .toml file"
            )
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LayerError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LayerError(f"{path}: cannot be read: {error}") from None
    return _Reader(path, text).net(table)


@dataclass(frozen=True)
class _Reader:
    """Turns parsed TOML into a Net, and knows the lines for its complaints."""

    path: Path
    text: str

    def fail(self, index: int | None, key: str, reason: str) -> LayerError:
        return LayerError(f"{self.path}, line {self.line(index, key)}: {reason}")

    def line(self, index: int | None, key: str) -> int:
        """The line of a key in the index-th [[layer]] (None: before the first), else of the table's head."""
        long_texts = r"(\"{3}|'{3}).*?\1"  # what looks like a key inside them is none
        lines = re.sub(long_texts, lambda text: "\n" * text[0].count("\n"), self.text, flags=re.DOTALL).splitlines()
        heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*layer\s*\]\]", line)]
        begin = 0 if index is None or index >= len(heads) else heads[index]
        end = next((i for i in heads if i > begin), len(lines)) if index is not None else (heads or [len(lines)])[0]
        for number in range(begin, end):
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", lines[number]):
                return number + 1
        return begin + 1

    def net(self, table: dict[str, Any]) -> Net:
        for key in table:
            if key not in ("about", "layer"):
                raise self.fail(None, key, f"unknown key '{key}'; known are about and [[layer]]")
        layers = table.get("layer")
        if not isinstance(layers, list) or not layers or not all(isinstance(entry, dict) for entry in layers):
            raise self.fail(None, "layer", "there is no [[layer]]: a layer set needs at least one")
        about = table.get("about", "")
        if not isinstance(about, str):
            raise self.fail(None, "about", "about must be a text")
        read: list[Layer] = []
        for index, entry in enumerate(layers):
            layer = self.layer(index, entry)
            if layer.name in {other.name for other in read}:
                raise self.fail(index, "name", f"a second layer is called '{layer.name}'")
            read.append(layer)
        return Net(self.path.stem, tuple(read), about)

    def layer(self, index: int, entry: dict[str, Any]) -> Layer:
        for key in entry:
            if key not in LAYER_KEYS:
                raise self.fail(index, key, f"unknown key '{key}'; known are {', '.join(sorted(LAYER_KEYS))}")
        name = entry.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
            raise self.fail(index, "name", "a layer needs a name of letters, digits, '.', '_' and '-'")
        c, h, w, k, r, s = (self.whole(index, key, entry.get(key), name) for key in SIZES)
        stride, pad, dilation = (self.pair(index, key, entry.get(key, usual)) for key, usual in PAIRS.items())
        groups = self.whole(index, "groups", entry.get("groups", 1), name)
        try:
            shape = ConvShape(1, c, h, w, k, r, s, stride, pad, dilation, groups)
        except ShapeError as error:
            raise self.fail(index, "name", f"layer '{name}': {error}") from None
        about = entry.get("about", "")
        if not isinstance(about, str):
            raise self.fail(index, "about", "about must be a text")
        return Layer(name, shape, self.pool(index, entry.get("pool"), min(shape.p, shape.q)), about)

    def whole(self, index: int, key: str, value: Any, name: str) -> int:
        if value is None:
            raise self.fail(index, "name", f"layer '{name}' has no {key}")
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(index, key, f"{key} must be a whole number, not {value!r}")
        return value

    def pair(self, index: int, key: str, value: Any) -> Pair:
        values = value if isinstance(value, (list, tuple)) else [value, value]
        if len(values) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise self.fail(index, key, f"{key} must be a whole number or [height, width], not {value!r}")
        return values[0], values[1]

    def pool(self, index: int, value: Any, output: int) -> Pool | None:
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) != {"size", "stride"}:
            raise self.fail(index, "pool", "pool must be { size = ..., stride = ... }")
        size, stride = value["size"], value["stride"]
        for key, each in (("size", size), ("stride", stride)):
            if not isinstance(each, int) or isinstance(each, bool):
                raise self.fail(index, "pool", f"pool's {key} must be a whole number, not {each!r}")
        if size > output:
            raise self.fail(index, "pool", f"pool's size {size} is larger than the output, {output}")
        if size < 1 or stride < 1:
            raise self.fail(index, "pool", "pool's size and stride must be at least 1")
        return Pool(size, stride)
