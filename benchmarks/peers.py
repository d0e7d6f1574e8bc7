"""ONNX Runtime's own quantizer, as its users call it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

__all__ = ["Reader", "quantize_with_onnxruntime"]

Images = NDArray[np.float32]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands images to ONNX Runtime's quantizer one at a time."""

    def __init__(self, name: str, images: Images) -> None:
        self._feeds: Iterator[dict[str, Images]] = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, Images] | None:
        return next(self._feeds, None)


def quantize_with_onnxruntime(float_file: Path, images: Images | CalibrationDataReader, path: Path) -> None:
    """Write ``path``: QDQ, unsigned activations, signed weights per channel, min-max, all else as it comes."""
    logging.getLogger().setLevel(logging.ERROR)  # quantize_static advises on every call
    name = onnx.load(float_file, load_external_data=False).graph.input[0].name
    quantize_static(
        str(float_file),
        str(path),
        Reader(name, images) if isinstance(images, np.ndarray) else images,
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
