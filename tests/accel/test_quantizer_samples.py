"""Calibration data of every kind gives the same samples, one at a time."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.networks.float_models import onnx_model

from accel.errors import InputError, ModelError
from accel.frontends.onnx.reader import read_onnx
from accel.network.graph_file import dump_graph
from accel.quantizer import ImageFolder, Preprocessing, quantize
from accel.quantizer.samples import sample_count, samples_of

RNG = np.random.default_rng(1)
W = RNG.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32)
X = RNG.integers(0, 256, (6, 3, 8, 8)).astype(np.uint8)
MODEL = onnx_model([("Conv", ["x", "w"], "y", {})], {"w": W}, (1, 3, 8, 8))
TWO = onnx_model([("Add", ["x", "z"], "y", {})], {}, (1, 3, 8, 8), inputs=("x", "z"))


class Reader:
    """As ONNX Runtime's calibration readers."""

    def __init__(self, wrap: Callable[[NDArray[Any]], Any]) -> None:
        self.items = iter([wrap(x[None]) for x in X])

    def get_next(self) -> Any:
        return next(self.items, None)


class Tensor:
    """A tensor of another library."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self.values


class Broken:
    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        raise RuntimeError("detach me first")


def batches() -> Iterator[Any]:
    """As a DataLoader: (images, labels)."""
    yield [Tensor(X[:4]), Tensor(np.arange(4))]
    yield [Tensor(X[4:]), Tensor(np.arange(2))]


SOURCES: dict[str, Callable[[], Any]] = {
    "array": lambda: X,
    "mapping": lambda: {"x": X},
    "list": lambda: list(X),
    "iterator of batches of one": lambda: iter([x[None] for x in X]),
    "generator of mappings": lambda: ({"x": x} for x in X),
    "function": lambda: lambda: ([x] for x in X),
    "reader": lambda: Reader(lambda x: {"x": x}),
    "reader of arrays": lambda: Reader(lambda x: x),
    "loader": batches,
    "tensor": lambda: Tensor(X),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_samples(kind: str) -> None:
    found = list(samples_of(read_onnx(MODEL), SOURCES[kind]()))
    assert [list(sample) for sample in found] == [["x"]] * 6
    assert all(sample["x"].dtype == np.float32 and sample["x"].shape == (1, 3, 8, 8) for sample in found)
    assert np.array_equal(np.concatenate([sample["x"] for sample in found]), X.astype(np.float32))


def test_iterator_quantizes_to_the_same_bytes() -> None:
    options: list[dict[str, Any]] = [{}, {"prepare": ("bias_correction",)}]
    for settings in options:
        expected = dump_graph(quantize(MODEL, X, **settings))
        assert dump_graph(quantize(MODEL, iter(X), **settings)) == expected


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_give_the_same_samples(save: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    save(tmp_path / "x.npz", x=X)
    save(tmp_path / "two.npz", z=X.astype(np.float64), x=X)
    folder = tmp_path / "folder"
    folder.mkdir()
    for index, x in enumerate(X):
        np.save(folder / f"{index}.npy", x)
    network, two = read_onnx(MODEL), read_onnx(TWO)
    for source in (tmp_path / "x.npy", str(tmp_path / "x.npz"), folder):
        found = np.concatenate([sample["x"] for sample in samples_of(network, source)])
        assert np.array_equal(found, X.astype(np.float32))
    samples = list(samples_of(two, tmp_path / "two.npz"))
    assert len(samples) == 6
    assert all(np.array_equal(sample["x"], sample["z"]) for sample in samples)


def test_folder_of_images_is_preprocessed(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, :, 0] = np.arange(12) * 20
    pixels[:, :, 1] = 51
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(255 - pixels).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    network = read_onnx(MODEL)
    chosen = Preprocessing(crop=8, mean=(0.0, 0.1, 0.0), std=(1.0, 0.5, 1.0))
    first, second = samples_of(network, ImageFolder(tmp_path, chosen))
    assert np.allclose(second["x"][0, 0], pixels[:, 2:10, 0] / 255)
    assert np.allclose(second["x"][0, 1], 0.2)
    assert np.allclose(first["x"][0, 2], 1)
    halved = next(iter(ImageFolder(tmp_path, Preprocessing(resize=4, layout="NHWC", channels=1, scale=1.0))))
    assert halved.shape == (4, 6, 1)
    assert halved.max() > 100


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_of_16_bits_keep_their_upper_ones(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    pixels = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    for channels in (1, 3):
        (found,) = ImageFolder(tmp_path, Preprocessing(channels=channels, scale=1.0))
        assert np.array_equal(found, np.broadcast_to(pixels >> 8, (channels, 8, 8)))


def test_images_of_real_numbers_and_smaller_than_the_crop_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((6, 9), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(
        InputError, match=r"x\.tif: must be an image, got mode 'F', which has not 8 or 16 bits; convert it$"
    ):
        list(ImageFolder(tmp_path))
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "x.tif")
    expected = r"x\.tif: must be at least as large as the crop, 7x7 pixels, got 9x6; resize first$"
    with pytest.raises(InputError, match=expected):
        list(ImageFolder(tmp_path, Preprocessing(crop=7)))


def test_memory_does_not_grow_with_the_samples() -> None:
    """Ten times the samples, as bytes in one array or from a generator, take no more memory than is in flight."""
    model = onnx_model([("Conv", ["x", "w"], "y", {})], {"w": W}, (1, 3, 16, 16))
    few, many = (RNG.integers(0, 256, (count, 3, 16, 16)).astype(np.uint8) for count in (200, 2000))

    def peak(source: Any) -> int:
        tracemalloc.start()
        quantize(model, source)
        _, largest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return largest

    in_flight = 3 * few[:32].size * 4
    for samples in (few, many):  # what a first run leaves in caches counts for neither
        peak(samples)
    for make in (lambda samples: samples, iter):
        assert peak(make(many)) < peak(make(few)) + in_flight


def test_count_is_known_of_arrays_only() -> None:
    assert [sample_count(source) for source in (X, {"x": X}, iter(X), Path("x.npy"), {})] == [6, 6, 0, 0, 0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "calibration must hold at least one sample, got none"),
        (3, "calibration must be an array, a mapping of input names to arrays, a path, an iterable of samples or"),
        (Broken(), "calibration of 'x' must be an array, got Broken: detach me first"),
        (["abc"], "calibration of 'x' must be real numbers, got <U3"),
        ([X.astype(np.complex64)], "calibration of 'x' must be real numbers, got complex64"),
        ([np.full((3, 8, 8), np.nan)], "calibration of 'x' must be finite"),
        ({"images": X}, "calibration must have the inputs ('x',), got ('images',): name the arrays so"),
        (X[:, :2], "calibration of 'x' must have shape (samples, 3, 8, 8), got (6, 2, 8, 8)"),
        ("none.npy", "none.npy: must be a readable .npy or .npz file, got No such file or directory"),
    ],
)  # fmt: skip
def test_calibration_that_does_not_fit_is_one_sentence(source: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        quantize(MODEL, source)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:200])
    (tmp_path / "text.npy").write_text("hello")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.png").write_text("no image")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"none\.npz: must hold arrays by the names of the inputs, got none"):
        quantize(MODEL, tmp_path / "none.npz")
    for name in ("cut.npz", "text.npy", "objects.npy"):
        with pytest.raises(InputError, match=r"must be a .*\.npz file"):
            quantize(MODEL, tmp_path / name)
    with pytest.raises(InputError, match=r"folder must hold \.npy files or images, got neither"):
        quantize(MODEL, tmp_path / "empty")
    with pytest.raises(InputError, match=r"x\.png: must be an image, got "):
        list(ImageFolder(tmp_path))


@pytest.mark.parametrize("value", [1e-40, -1e-45, 3e30])
def test_extreme_values_quantize(value: float) -> None:
    graph = quantize(MODEL, np.full((2, 3, 8, 8), value, np.float32))
    assert all(np.isfinite(tensor.scale) and tensor.scale > 0 for tensor in graph.tensors.values())


def test_activation_beyond_float32_is_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"^activation 'y' must be finite on every calibration sample$"):
        quantize(onnx_model([("Mul", ["x", "x"], "y", {})], {}, (1, 3, 8, 8)), np.full((2, 3, 8, 8), 1e37, np.float32))


def test_doubtful_data_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    dead = onnx_model(
        [("Conv", ["x", "w", "b"], "a", {}), ("Relu", ["a"], "r", {}), ("Conv", ["r", "v"], "y", {})],
        {"w": W, "b": np.full(4, -1e6, np.float32), "v": np.ones((1, 4, 1, 1), np.float32)}, (1, 3, 8, 8),
    )  # fmt: skip
    nodes = [("Conv", ["x", "w", "b"], "a", {}), ("Relu", ["a"], "y", {})]
    one = onnx_model(nodes, {"w": W, "b": np.full(4, -1e6, np.float32)}, (1, 3, 8, 8))
    with caplog.at_level(logging.WARNING):
        quantize(MODEL, X[:1])
        quantize(MODEL, np.zeros((4, 3, 8, 8), np.float32))
        quantize(dead, X)
        quantize(one, X)
        quantize(MODEL, X)
    assert [record.message for record in caplog.records] == [
        "calibration has one sample: ranges show nothing of others; give a hundred or more",
        "calibration of 'x' is zero everywhere",
        "2 activations are zero on every calibration sample: 'r', 'y'",
        "1 activation is zero on every calibration sample: 'y'",
    ]


def test_image_options_that_do_not_fit_are_refused() -> None:
    for options, message in (
        ({"size": "3"}, "image option must be one of resize, crop, scale, layout, channels, mean, std, got 'size'"),
        ({"resize": "big"}, "image option resize must be a number, or numbers with commas, got 'big'"),
        ({"layout": "CHW"}, "layout must be NCHW or NHWC, got 'CHW'"),
        ({"std": "0"}, "std must not be 0, got (0.0,)"),
        ({"mean": "1,2"}, "mean must be one number, or one per channel, got (1.0, 2.0)"),
        ({"crop": "0"}, "crop must be in 1 .. 8192, got 0"),
        ({"resize": "1000000"}, "resize must be in 1 .. 8192, got 1000000"),
        ({"channels": "2"}, "channels must be 1 or 3, got 2"),
    ):
        with pytest.raises(InputError) as error:
            Preprocessing.of(options)
        assert str(error.value) == message


def test_images_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    """A strip whose shorter side grows, and a file whose header promises too much."""
    from PIL import Image

    Image.new("L", (30_000, 2)).save(tmp_path / "strip.png")
    with pytest.raises(
        InputError, match=r"strip\.png: must have at most 67,108,864 pixels after resize=100, got 1500000x"
    ):
        next(iter(ImageFolder(tmp_path, Preprocessing(resize=100))))
    Image.new("1", (2**13, 2**13 + 1)).save(tmp_path / "a_large.png")
    with pytest.raises(InputError, match=r"a_large\.png: must have at most 67,108,864 pixels, got 8192x8193$"):
        next(iter(ImageFolder(tmp_path)))
