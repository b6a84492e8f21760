"""Folders of images as calibration data; the images are read by Pillow, which is optional."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 2**26
"""Of an image, as it is read and as it is resized: what it takes stays below a gigabyte."""
MOST_SIDE = 2**13
"""Of a square of so many pixels."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From pixels to a network's input: ``(pixels * scale - mean) / std``.

    Parameters
    ----------
    resize : int, optional
        Length of the shorter side, bilinear.
    crop : int, optional
        Side of a square in the middle, at most the shorter side of every image.
    scale : float
    mean, std : tuple of float
        One number, or one per channel.
    layout : str
        "NCHW" or "NHWC".
    channels : int
        3 for colours (RGB), 1 for grey.
    """

    resize: int | None = None
    crop: int | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    channels: int = 3

    def __post_init__(self) -> None:
        if self.layout not in ("NCHW", "NHWC"):
            raise InputError(f"layout must be NCHW or NHWC, got {self.layout!r}")
        if self.channels not in (1, 3):
            raise InputError(f"channels must be 1 or 3, got {self.channels!r}")
        for name in ("resize", "crop"):
            if (size := getattr(self, name)) is not None and not 1 <= size <= MOST_SIDE:
                raise InputError(f"{name} must be in 1 .. {MOST_SIDE}, got {size!r}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise InputError(f"{name} must be one number, or one per channel, got {getattr(self, name)!r}")
        if 0 in self.std:
            raise InputError(f"std must not be 0, got {self.std!r}")

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Preprocessing:
        """From the texts of the command line: several numbers are separated by commas."""
        kinds: dict[str, Any] = {
            "resize": int, "crop": int, "scale": float, "layout": str, "channels": int,
            "mean": _numbers, "std": _numbers,
        }  # fmt: skip
        values = {}
        for name, text in texts.items():
            if name not in kinds:
                raise InputError(f"image option must be one of {', '.join(kinds)}, got {name!r}")
            try:
                values[name] = kinds[name](text)
            except ValueError:
                raise InputError(
                    f"image option {name} must be a number, or numbers with commas, got {text!r}"
                ) from None
        return cls(**values)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, in the order of their names, preprocessed one by one."""

    folder: str | Path
    preprocessing: Preprocessing = Preprocessing()

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        folder = Path(self.folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: must be a folder of images")
        files = sorted(file for file in folder.iterdir() if is_image(file))
        return (read_image(file, self.preprocessing) for file in files)


def is_image(path: Path) -> bool:
    """Whether the ending is that of an image."""
    return path.suffix.lower() in SUFFIXES


def read_image(path: Path, preprocessing: Preprocessing = Preprocessing()) -> NDArray[np.float32]:
    """One image of shape (channels, height, width), or (height, width, channels) in layout NHWC.

    Raises
    ------
    InputError
        Pillow is not installed, the file is no image of 8 or 16 bits, it is smaller than the crop, or it has more than
        `MOST_PIXELS`, as it is or resized.

    Notes
    -----
    Of 16 bits the upper 8 count.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{path}: images need Pillow: pip install 'accel[images]'") from None
    chosen = preprocessing
    try:
        with Image.open(path) as file:
            _check_size(path, *file.size)
            image = _of_8_bits(file).convert("RGB" if chosen.channels == 3 else "L")
    except InputError:
        raise
    except Exception as error:  # Pillow raises several types for damaged files
        raise InputError(f"{path}: must be an image, got {error}") from None
    if chosen.resize:
        factor = chosen.resize / min(image.size)
        width, height = (max(round(side * factor), chosen.resize) for side in image.size)
        _check_size(path, width, height, f" after resize={chosen.resize}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if chosen.crop:
        if chosen.crop > min(image.size):
            raise InputError(
                f"{path}: must be at least as large as the crop, {chosen.crop}x{chosen.crop} pixels, got "
                f"{image.width}x{image.height}; resize first"
            )
        left, top = ((side - chosen.crop) // 2 for side in image.size)
        image = image.crop((left, top, left + chosen.crop, top + chosen.crop))
    pixels = np.asarray(image, dtype=np.float32).reshape(image.height, image.width, chosen.channels)
    mean, std = (np.array(numbers, dtype=np.float32) for numbers in (chosen.mean, chosen.std))
    values = (pixels * np.float32(chosen.scale) - mean) / std
    return np.ascontiguousarray(values if chosen.layout == "NHWC" else values.transpose(2, 0, 1), dtype=np.float32)


def _check_size(path: Path, width: int, height: int, how: str = "") -> None:
    """Refuse an image before memory for it is taken."""
    if width * height > MOST_PIXELS:
        raise InputError(f"{path}: must have at most {MOST_PIXELS:,} pixels{how}, got {width}x{height}")


def _of_8_bits(image: Image.Image) -> Image.Image:
    """The upper bits of a grey image of 16, which Pillow would clip; others as they are."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):  # older versions call them I
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode!r}, which has not 8 or 16 bits; convert it")
    return image
