"""ONNX Runtime's usability checker beside ``dfq-deploy check``, node by node, as Markdown.

usage: python -m benchmarks.usability [--zoo FOLDER] [--models NAME...] [--files FILE...]

``onnxruntime.tools.mobile_helpers.usability_checker`` knows two accelerators: NNAPI and Core ML. For NNAPI its nodes
outside all parts are compared with those that the rule ``left-to-cpu`` names. A file with open dimensions, which the
rule ``static-shape`` refuses, is compared as the tool sees it with its sizes fixed. Constant nodes, which the tool
optimizes away, are not compared. For Core ML, which this package refuses as a target, the last column says how many Q
and DQ of the file its two lists of operators have. Each zoo model is calibrated for ``nnapi`` and for ``xnnpack`` by
pictures by rule; the tool has no list for XNNPACK, so that the row of ``xnnpack`` tells what NNAPI would take of that
file. Files of any tool follow.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.tools.mobile_helpers import usability_checker

from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy.checking import check
from dfq_deploy.errors import DfqError
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.outcome import closed_model
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.plugins.registry import exporter_of, find_plugin
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.targets.catalog import TARGETS

SAMPLES = 8

CORE_ML = ("coreml_supported_mlprogram_ops.md", "coreml_supported_neuralnetwork_ops.md")


def theirs(path: Path, fixed: bool) -> tuple[Any, frozenset[str]]:
    """The parts that NNAPI can take, as ONNX Runtime's tool counts them, and the nodes outside."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    found = usability_checker.check_nnapi_partitions(model, fixed and bool(model.graph.value_info))
    inside = {node.output[0] for group in found.supported_groups for node in group}
    outside = (node for node in model.graph.node if node.output[0] not in inside and node.op_type != "Constant")
    return found, frozenset(node.name or node.output[0] for node in outside)


def core_ml(path: Path) -> int:
    """How many Q and DQ of a file Core ML has, in the better of its two formats."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    found = [usability_checker.check_coreml_partitions(model, False, name) for name in CORE_ML]
    taken = [[node.op_type for group in entry.supported_groups for node in group] for entry in found]
    return max(names.count("QuantizeLinear") + names.count("DequantizeLinear") for names in taken)


def compared(label: str, path: Path) -> str:
    """One line of the table."""
    rules = {entry: entry.rule for entry in check(path, "nnapi").violations}
    fixed = "static-shape" not in rules.values()
    found, outside = theirs(path, fixed)
    named = frozenset(entry.node for entry, rule in rules.items() if rule == "left-to-cpu")
    parts = f"{found.num_supported_nodes} of {found.num_nodes} in {found.num_partitions}"
    parts += "" if fixed else ", with its sizes fixed"
    differ = sorted(outside ^ named)
    shown = ", ".join(f"`{name}`" for name in differ[:3]) + (f" and {len(differ) - 3} more" if len(differ) > 3 else "")
    cells = (label, parts, found.suitability().name.lower(), str(len(named)), shown or "none", str(core_ml(path)))
    return f"| {' | '.join(cells)} |"


def written(model: ZooModel, target: str, folder: Path) -> Path:
    """The QDQ file of a zoo model."""
    chosen, calibrator = TARGETS[target], find_plugin("calibrators", "minmax")()
    samples = synthesize(model.folded, synth="procedural", count=SAMPLES, preprocess=model.preprocess)
    made = encode(prepare(load(model.folded), chosen), calibrator, samples, model.preprocess)
    path = folder / "model.qdq.onnx"
    exporter_of(chosen.exporter).export(*closed_model(made.prepared.model, made.encodings, chosen, 1), path)
    return path


def rows(args: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    for model in models(args.zoo, args.models):
        for target in ("nnapi", "xnnpack"):
            with tempfile.TemporaryDirectory() as folder:
                yield compared(f"{model.name}, `{target}`", written(model, target, Path(folder)))
    for path in args.files:
        try:
            yield compared(path.name, path)
        except (DfqError, ValueError) as problem:  # the tool raises ValueError for files that it cannot read
            yield f"| {path.name} | {problem} |"


def main() -> None:
    """Print the table, a line as soon as it is compared."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--files", nargs="*", type=Path, default=[])
    args = parser.parse_args()
    print("| file | NNAPI takes, nodes in parts | worth a try | left by our rules | differ | Q and DQ in Core ML |")
    print("|---|---|---|---:|---|---:|")
    for row in rows(args):
        print(row, flush=True)


if __name__ == "__main__":
    main()
