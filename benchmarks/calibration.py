"""Time and peak memory of calibration: this package against ONNX Runtime's own calibrators.

Each measurement is a fresh process, imports included, fed one image at a time, as users of quantize_static do. Ours
calibrates the tensors that are quantized for the target cpu (``ours``) and, with --all-tensors, exactly those that
ONNX Runtime calibrates, all inputs and outputs of its operator types (``ours, all``). Prints Markdown.

usage: python benchmarks/calibration.py [--zoo FOLDER] [--counts 32 64 128] [--methods minmax percentile entropy mse]
       [--all-tensors] [--repeats 1]
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.registry import find_plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL = "models/mobilenet_v1_075_224.onnx"
IMAGES = "data/imagenet_1000_224.zip"
SIDES = ("theirs", "ours", "ours, all")


def main() -> None:
    """Measure in turn and print a table; or, with --child, do one calibration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=Path(__file__).parents[1] / "../shared/zoo")
    parser.add_argument("--counts", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--methods", nargs="+", default=["minmax", "percentile", "entropy", "mse"])
    parser.add_argument("--all-tensors", action="store_true", help="ours also on exactly the tensors that theirs takes")
    parser.add_argument("--repeats", type=int, default=1, help="the fastest of so many runs counts")
    parser.add_argument("--child", nargs=4, metavar=("SIDE", "METHOD", "COUNT", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        side, method, count, folder = args.child
        _child(side, method, int(count), args.zoo / MODEL, Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(["prepare", "-", str(max(args.counts)), folder], args.zoo)
        tensors = json.loads((Path(folder) / "tensors.json").read_text())
        print(
            f"{MODEL}: ONNX Runtime calibrates {tensors['theirs']} tensors, the target cpu needs {tensors['ours']}.\n"
        )
        sides = SIDES if args.all_tensors else SIDES[:2]
        titles = [f"{side}: s | MB" for side in sides] + [f"{side}: times faster" for side in sides[1:]]
        print(f"| images | method | {' | '.join(titles)} |")
        print("|---:|---|" + "---:|" * (3 * len(sides) - 1))
        for count in args.counts:
            for method in args.methods:
                print(_row(count, method, sides, folder, args), flush=True)


def _row(count: int, method: str, sides: tuple[str, ...], folder: str, args: argparse.Namespace) -> str:
    """One line of the table; ONNX Runtime has no mse."""
    runs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides if method != "mse" or side != "theirs"}
    for _ in range(args.repeats):
        for side, found in runs.items():
            found.append(_run([side, method, str(count), folder], args.zoo))
    best = {side: (min(time for time, _ in found), max(memory for _, memory in found)) for side, found in runs.items()}
    cells = [f"{best[side][0]:.2f} | {best[side][1]:.0f}" if side in best else "- | -" for side in sides]
    for side in sides[1:]:
        cells.append(f"{best['theirs'][0] / best[side][0]:.1f}" if "theirs" in best else "-")
    return f"| {count} | {method} | " + " | ".join(cells) + " |"


def _run(job: list[str], zoo: Path) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of one fresh process."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--zoo", str(zoo), "--child", *job]
    _, status, usage = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
    if status:
        raise SystemExit(f"{' '.join(job[:3])}: exit status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def _child(side: str, method: str, count: int, model: Path, folder: Path) -> None:
    if side == "prepare":
        _prepare(model, model.parents[1] / IMAGES, count, folder)
    elif side == "theirs":
        _theirs(method, count, model, folder)
    else:
        _ours(method, count, model, folder, everything=side == "ours, all")


def _prepare(model: Path, archive: Path, count: int, folder: Path) -> None:
    """Images as one array, so that no measured process decodes JPEG; and the list of ONNX Runtime's tensors."""
    import numpy as np
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
    from PIL import Image

    with zipfile.ZipFile(archive) as images:
        names = sorted(images.namelist())[:count]
        pixels = [np.asarray(Image.open(io.BytesIO(images.read(name))).convert("RGB")) for name in names]
    np.save(folder / "images.npy", np.stack(pixels))
    tensors, _ = _their_calibrator("minmax", model, folder).select_tensors_to_calibrate(
        load_model_with_shape_infer(model)
    )
    (folder / "theirs.json").write_text(json.dumps(sorted(tensors)))
    counts = {"theirs": len(tensors), "ours": len(_placed(_load(model)))}
    (folder / "tensors.json").write_text(json.dumps(counts))


def _batches(count: int, folder: Path) -> "Iterator[dict[str, NDArray[np.float32]]]":
    """``count`` images of batch 1, normalised to [-1, 1] as the model wants them."""
    import numpy as np

    images = np.load(folder / "images.npy", mmap_mode="r")
    for index in range(count):
        pixels = images[index % len(images)][None].transpose(0, 3, 1, 2).astype(np.float32)
        yield {"input": pixels / np.float32(127.5) - np.float32(1)}


def _their_calibrator(method: str, model: Path, folder: Path) -> Any:
    from onnxruntime.quantization import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    kinds = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    operators = list(set(QLinearOpsRegistry) | set(QDQRegistry))
    augmented = str(folder / f"augmented_{os.getpid()}.onnx")
    return create_calibrator(model, operators, augmented_model_path=augmented, calibrate_method=kinds[method])


def _theirs(method: str, count: int, model: Path, folder: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(count, folder)

        def get_next(self) -> Any:
            return next(self._batches, None)

    calibrator = _their_calibrator(method, model, folder)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        calibrator.collect_data(Reader())
        calibrator.compute_data()


def _load(model: Path) -> Any:

    return load(model)


def _placed(model: Any) -> dict[str, Any]:
    from dfq_deploy.quantization.placement.place import place
    from dfq_deploy.targets.catalog import find_target

    return dict(place(model, find_target("cpu")).activations)


def _ours(method: str, count: int, path: Path, folder: Path, *, everything: bool) -> None:
    from dfq_deploy.targets.catalog import find_target

    model = _load(path)
    tensors = _placed(model)
    if everything:
        names = json.loads((folder / "theirs.json").read_text())
        tensors = dict.fromkeys(names, find_target("cpu").activation)
    find_plugin("calibrators", method)().ranges(model, tensors, _batches(count, folder))


if __name__ == "__main__":
    main()
