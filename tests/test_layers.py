"""Layer sets: AlexNet fits together, and a broken file is answered with file, line and reason."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from convbench.layers import LayerError, built_in, load

GOOD = """\
about = "mine"

[[layer]]
name = "first"
c = 3
h = 8
w = 9
k = 4
r = 3
s = 2
stride = [2, 1]
pad = 1
groups = 1
pool = { size = 3, stride = 2 }
about = "a remark"

[[layer]]
name = "second"
c = 4
h = 5
w = 6
k = 7
r = 1
s = 1
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_alexnet_is_complete() -> None:
    net = load("alexnet")
    assert net.name == "alexnet"
    assert [layer.name for layer in net.layers] == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    assert [str(layer.shape) for layer in net.layers] == [
        "n1c3h227w227k96r11s11u4",
        "n1c96h27w27k256r5s5p2g2",
        "n1c256h13w13k384r3s3p1",
        "n1c384h13w13k384r3s3p1g2",
        "n1c384h13w13k256r3s3p1g2",
        "n1c256h6w6k4096r6s6",
        "n1c4096h1w1k4096r1s1",
        "n1c4096h1w1k1000r1s1",
    ]
    assert "alexnet" in built_in()


@pytest.mark.parametrize("net", ["alexnet"])
def test_each_output_fits_the_next_input(net: str) -> None:
    layers = load(net).layers
    for layer, after in pairwise(layers):
        p, q = layer.shape.p, layer.shape.q
        if layer.pool:
            p, q = layer.pool.output(p), layer.pool.output(q)
        assert (layer.shape.k, p, q) == (after.shape.c, after.shape.h, after.shape.w), f"{layer.name} to {after.name}"


@pytest.mark.parametrize(("net", "count"), [("vgg16", 9), ("googlenet", 49), ("resnet18", 11), ("resnet50", 23)])
def test_the_other_sets_hold_every_shape_once(net: str, count: int) -> None:
    shapes = [layer.shape for layer in load(net).layers]
    assert len(shapes) == len(set(shapes)) == count
    assert net in built_in()
    for shape in shapes:
        assert shape.pad == (shape.r // 2, shape.s // 2)
        assert shape.p == shape.h // shape.stride[0], "all pad to the size of the input over the stride"


def test_the_whole_of_vgg16_is_known() -> None:
    """15.3 G multiply-adds (Simonyan & Zisserman, their convolutions), with the shapes that come more than once."""
    often = {"conv3_2": 2, "conv4_2": 2, "conv5_1": 3}
    assert sum(often.get(layer.name, 1) * layer.shape.flops for layer in load("vgg16").layers) == 30_693_261_312


def test_pooling_of_alexnet() -> None:
    pooled = {layer.name: layer.pool.output(layer.shape.p) for layer in load("alexnet").layers if layer.pool}
    assert pooled == {"conv1": 27, "conv2": 13, "conv5": 6}


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    net = load(str(write(tmp_path, GOOD)))
    assert (net.name, net.about, len(net.layers)) == ("mine", "mine", 2)
    first, second = net.layers
    assert str(first.shape) == "n1c3h8w9k4r3s2u2x1p1"
    assert first.pool is not None
    assert (first.pool.size, first.pool.stride, first.about) == (3, 2, "a remark")
    assert (str(second.shape), second.pool, second.about) == ("n1c4h5w6k7r1s1", None, "")


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ('about = "mine"', 'abuot = "mine"', 1, "unknown key 'abuot'; known are about and [[layer]]"),
        ('about = "mine"', "about = 3", 1, "about must be a text"),
        ("stride = [2, 1]", "strides = [2, 1]", 11, "unknown key 'strides'"),
        ("groups = 1", "group = 1", 13, "unknown key 'group'"),
        ("\nk = 7", "\nkk = 7", 22, "unknown key 'kk'"),
        ("c = 3", 'c = "3"', 5, "c must be a whole number, not '3'"),
        ("h = 8", "h = 8.0", 6, "h must be a whole number, not 8.0"),
        ("w = 9", "w = true", 7, "w must be a whole number, not True"),
        ("h = 5", "h = [5, 5]", 20, "h must be a whole number, not [5, 5]"),
        (
            "stride = [2, 1]",
            "stride = [2, 1, 1]",
            11,
            "stride must be a whole number or [height, width], not [2, 1, 1]",
        ),
        ("stride = [2, 1]", "stride = 1.5", 11, "stride must be a whole number or [height, width], not 1.5"),
        ("stride = [2, 1]", "stride = [2, true]", 11, "stride must be a whole number or [height, width]"),
        ("pad = 1", 'pad = "same"', 12, "pad must be a whole number or [height, width], not 'same'"),
        ("groups = 1", 'groups = "two"', 13, "groups must be a whole number, not 'two'"),
        ("pool = { size = 3, stride = 2 }", "pool = 3", 14, "pool must be { size = ..., stride = ... }"),
        ("pool = { size = 3, stride = 2 }", "pool = { size = 3 }", 14, "pool must be { size = ..., stride = ... }"),
        ("size = 3, stride = 2", "size = 3, stride = 0", 14, "pool's size and stride must be at least 1"),
        ("size = 3, stride = 2", 'size = 3, stride = "2"', 14, "pool's stride must be a whole number, not '2'"),
        ('about = "a remark"', "about = 1", 15, "about must be a text"),
        ('name = "first"', 'name = "the first"', 4, "a layer needs a name of letters, digits, '.', '_' and '-'"),
        ('name = "first"', 'name = ""', 4, "a layer needs a name"),
        ('name = "first"', "name = 1", 4, "a layer needs a name"),
        ('name = "first"\n', "", 3, "a layer needs a name"),
        ("\nk = 7", "", 18, "layer 'second' has no k"),
        ('name = "second"', 'name = "first"', 18, "a second layer is called 'first'"),
        ("groups = 1", "groups = 2", 4, "layer 'first': c = 3 channels cannot be split into 2 groups"),
        ("c = 4", "c = 0", 18, "layer 'second': c is 0, but must be at least 1"),
        (
            "\nr = 1",
            "\nr = 6",
            18,
            "layer 'second': the filter's height 6 (dilation included) is larger than the input",
        ),
        ("pad = 1", "pad = -1", 4, "layer 'first': pad is -1, but must not be negative"),
    ],
)
def test_the_line_and_the_reason(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert GOOD.count(old) == 1 or old.startswith("\n")
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(LayerError) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}, line {line}: {reason}")


@pytest.mark.parametrize(
    "text", ["", "\n# nothing\n", "layer = []\n", "layer = 3\n", "layer = [1]\n", '[layer]\nname = "a"\n']
)
def test_no_layers_at_all(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LayerError) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}, line ")
    assert "there is no [[layer]]: a layer set needs at least one" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("c = 3", "c = ", "line 5, column 5"),
        ("c = 3", "c = 3\nc = 4", "line 6"),
        ("[[layer]]\nn", "[[layer]\nn", "line 3"),
    ],
)
def test_broken_toml(tmp_path: Path, old: str, new: str, place: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(LayerError) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}")
    assert place in str(caught.value)


def test_a_key_inside_a_long_text_is_not_taken_for_the_key(tmp_path: Path) -> None:
    text = GOOD.replace('about = "a remark"', "").replace(
        'name = "first"', 'name = "first"\nabout = """\nof the paper:\nc = 3\n"""'
    )
    path = write(tmp_path, text.replace("\nc = 3\nh = 8", "\nc = '3'\nh = 8"))
    with pytest.raises(LayerError) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}, line 9: c must be a whole number")


def test_pooling_larger_than_what_it_pools(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("size = 3", "size = 30"))
    with pytest.raises(LayerError, match=r"line 14: .*pool"):
        load(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"no layer set 'alexnett': neither built in \(.*alexnet.*\) nor a file"):
        load("alexnett")
    with pytest.raises(LayerError, match="no layer set"):
        load(str(tmp_path / "absent.toml"))
    with pytest.raises(LayerError, match="no layer set"):
        load(str(tmp_path))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LayerError, match="cannot be read") as caught:
        load(str(binary))
    assert str(caught.value).startswith(f"{binary}")
