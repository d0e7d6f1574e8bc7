"""What NVIDIA's compiler makes of every zoo model: layers in 8 bits for each GPU, as Markdown. No GPU is needed.

usage: python -m benchmarks.rtx [--zoo FOLDER] [--models NAME...] [--capabilities LIST] [--bits WIDTHS]

The kernels depend on where Q and DQ stand, not on the scales: 16 pictures by rule calibrate each model. Layers are
counted in the list that TensorRT-RTX writes of each engine (:mod:`dfq_deploy.runtime.tensorrt.engine_layers`).
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfq_deploy.exporters.tensorrt import TensorRT

from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.runtime.layers import is_layer
from dfq_deploy.runtime.tensorrt.rtx import rtx_version
from dfq_deploy.targets.catalog import TARGETS

SAMPLES = 16


def engine_of(model: ZooModel, capabilities: str, bits: Bits, folder: Path) -> tuple[int, dict[str, Any], Path]:
    """Number of layers, what was compiled, and the engine."""
    source = load(model.folded)
    samples = synthesize(model.folded, synth="procedural", count=SAMPLES, preprocess=model.preprocess)
    prepared = prepare(source, TARGETS["tensorrt"], bits)
    quantized = encode(prepared, find_plugin("calibrators", "minmax")(), samples, model.preprocess)
    exporter = TensorRT(compute_capability=capabilities)
    path = folder / f"{model.name}.onnx"
    exporter.export(quantized.prepared.model, quantized.encodings, path)
    built = exporter.build(path)
    (engine,) = built.files
    layers = sum(is_layer(node) for node in quantized.prepared.model.graph.all_nodes())
    return layers, dict(built.engine or {}), engine


def rows(model: ZooModel, args: argparse.Namespace) -> Iterator[str]:
    """One line of the table, and the nodes that stay in float."""
    with tempfile.TemporaryDirectory() as folder:
        layers, engine, path = engine_of(model, args.capabilities, Bits.parse(args.bits), Path(folder))
        counted = [f"{entry['integer']} of {entry['total']}" for entry in engine["capabilities"]]
        sizes = [f"{file.stat().st_size / 1e6:.2f}" for file in (model.folded, path)]
        yield f"| {' | '.join([model.name, str(layers), *counted, *sizes])} |"


def main() -> None:
    """Compile, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--capabilities", default="86,89,120")
    parser.add_argument("--bits", default="w8a8")
    args = parser.parse_args()
    columns = [f"SM{part}" for part in args.capabilities.split(",")]
    print(f"TensorRT-RTX {rtx_version()}, {args.bits}\n")
    print(f"| model | layers | {' | '.join(columns)} | float file, MB | engine, MB |")
    print(f"|---|---:|{'---:|' * (len(columns) + 2)}")
    for model in models(args.zoo, args.models):
        for row in rows(model, args):
            print(row, flush=True)


if __name__ == "__main__":
    main()
