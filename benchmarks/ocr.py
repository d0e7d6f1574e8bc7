"""Text models on real text: is what a quantized one reads what the float one reads?

``python -m benchmarks.ocr --fonts FONTS --models MODELS`` calibrates each text model of :mod:`benchmarks.models` that
lies in MODELS as a user would who has no picture (``--synth procedural``, everything else by default, remedies too),
with drawn text of another seed (``--drawn 32``), or takes FOLDER/NAME.onnx of ``--quantized`` as it is. It compares the
result with float on lines and pages that are drawn with real fonts (:mod:`benchmarks.drawn_text`):

- recognizers: lines of which the decoded text equals float's, and characters of which it does; how many lines float
  reads without a mistake says whether the lines are fit to be read.
- detectors: how much of the text map above 0.3 is the same (intersection over union), and how many of float's boxes are
  found with an intersection over union of 0.7.
- classifiers of the direction: lines with the same answer, half of them upside down.

Signal to noise is that of the output. Fonts were those of the packages font-roboto 0.0.1, font-lato 0.1.0,
font-source-sans-pro 0.0.1, font-source-serif-pro 0.0.1, font-caladea 0.0.2 and font-hanken-grotesk 0.0.2 on PyPI,
unpacked into FONTS; the thinnest weights are left out. Prints Markdown.
"""

import argparse
import difflib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.drawn_text import find_fonts, lines, pages
from benchmarks.models import MODELS, OCR, Case
from dfq_deploy.evaluation.latency import speed_of
from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

__all__ = ["Compared", "compare"]

SEED = 4_711
THRESHOLD, FOUND = 0.3, 0.7
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Compared:
    """What a quantized text model does, beside the float one.

    Args:
        same: percent of the lines, boxes or answers that are the same.
        parts: percent of the characters, or of the map, that are the same.
        fit: percent of the lines that float reads without a mistake, or answers correctly; None for detectors.
        snr: of the output, in dB.
    """

    same: float
    parts: float
    fit: float | None
    snr: float


def compare(case: Case, model: Path, quantized: Path, fonts: list[Path], count: int) -> Compared:
    """Run both files on ``count`` pictures."""
    height, width = next(iter(case.shapes.values()))[2:]
    if case.inputs == "texts":
        pictures = _drawn(case, fonts, count, (height, width), SEED)
        wanted, given = (_run(path, pictures) for path in (model, quantized))
        return _detector(wanted[:, 0], given[:, 0])
    turn = case.name.endswith("cls")
    drawn = lines(fonts, count, height, width, SEED, turn=turn)
    pictures = [line.pixels for line in drawn]
    wanted, given = (_run(path, pictures) for path in (model, quantized))
    noise = _noise(wanted, given)
    if turn:
        answers, others = wanted.argmax(1), given.argmax(1)
        truth = np.array([line.turned for line in drawn])
        same = 100 * float((answers == others).mean())
        return Compared(same, same, 100 * float((answers == truth).mean()), noise)
    alphabet = _alphabet(model, wanted.shape[-1])
    texts, others_read = ([_decode(row, alphabet) for row in rows] for rows in (wanted, given))
    fit = np.mean([_plain(text) == _plain(line.text) for text, line in zip(texts, drawn, strict=True)])
    equal = np.mean([text == other for text, other in zip(texts, others_read, strict=True)])
    return Compared(100 * float(equal), _characters(texts, others_read), 100 * float(fit), noise)


def _drawn(case: Case, fonts: list[Path], count: int, size: tuple[int, int], seed: int) -> list[NDArray[np.uint8]]:
    """Pages for a detector, lines for the others."""
    if case.inputs == "texts":
        return pages(fonts, count, size[0], seed)
    return [line.pixels for line in lines(fonts, count, *size, seed, turn=case.name.endswith("cls"))]


def _inputs(pictures: list[NDArray[np.uint8]]) -> Floats:
    """As these networks take them: channels BGR, from -1 to 1."""
    stacked = np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2)
    return np.ascontiguousarray(stacked / 127.5 - 1, np.float32)


def _run(path: Path, pictures: list[NDArray[np.uint8]]) -> Floats:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, rows = session.get_inputs()[0].name, []
    for feed in _inputs(pictures):
        rows.append(session.run(None, {name: feed[None]})[0][0])
    return np.stack(rows)


def _noise(wanted: Floats, given: Floats) -> float:
    signal = wanted.astype(np.float64)
    return signal_to_noise(float((signal**2).sum()), float(((signal - given) ** 2).sum()))


def _alphabet(path: Path, classes: int) -> list[str]:
    """What each class stands for: the characters that the file holds, else the number of the class."""
    held = {entry.key: entry.value for entry in onnx.load(path).metadata_props}.get("character")
    if held is None:
        return [chr(0x10000 + index) for index in range(classes)]
    return ["", *held.split("\n"), *[" "] * classes][:classes]


def _decode(scores: Floats, alphabet: list[str]) -> str:
    """The best class of each column, repeated ones once, blanks (class 0) left out."""
    best = scores.argmax(-1)
    kept = best[np.r_[True, best[1:] != best[:-1]]]
    return "".join(alphabet[index] for index in kept if index)


def _plain(text: str) -> str:
    return "".join(text.split())


def _characters(texts: list[str], others: list[str]) -> float:
    """Percent of the characters that both have, in order."""
    pairs = [
        difflib.SequenceMatcher(None, text, other, autojunk=False) for text, other in zip(texts, others, strict=True)
    ]
    matched = sum(block.size for pair in pairs for block in pair.get_matching_blocks())
    return 100 * 2 * matched / max(sum(len(text) + len(other) for text, other in zip(texts, others, strict=True)), 1)


def _detector(wanted: Floats, given: Floats) -> Compared:
    maps = wanted > THRESHOLD, given > THRESHOLD
    union = (maps[0] | maps[1]).sum()
    found = boxes = 0
    for first, second in zip(*maps, strict=True):
        theirs = _boxes(second)
        for box in _boxes(first):
            boxes += 1
            found += any(_overlap(box, other) >= FOUND for other in theirs)
    parts = 100 * float((maps[0] & maps[1]).sum() / max(union, 1))
    return Compared(100 * found / max(boxes, 1), parts, None, _noise(wanted, given))


def _boxes(above: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """The boxes of connected regions, but for specks of a few pixels."""
    labels, _ = ndimage.label(above)
    found = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in ndimage.find_objects(labels)]
    return [box for box in found if (box[1] - box[0]) * (box[3] - box[2]) >= 16]


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    sides = [min(first[end], second[end]) - max(first[end - 1], second[end - 1]) for end in (1, 3)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[1] - box[0]) * (box[3] - box[2]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def main() -> None:
    """Print a line of the table for each text model that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, required=True, help="folder of .ttf and .otf files")
    parser.add_argument("--models", type=Path, required=True, help="holds NAME.onnx for each model")
    parser.add_argument("--quantized", type=Path, help="holds NAME.onnx in INT8: calibrate nothing")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--samples", type=int, default=None, help="how many are synthesized; as many as by default")
    parser.add_argument("--drawn", type=int, default=0, help="calibrate with so many drawn pictures of another seed")
    parser.add_argument("--count", type=int, default=128, help="how many pictures to compare on")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of dfq_deploy.calibrate")
    args = parser.parse_args()
    fonts = find_fonts(args.fonts)
    print(
        "| model | verdict | same | in parts | fit | SNR, dB | float / INT8 | INT8 / first INT8 | remedies kept | s |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---|---:|")
    for case in MODELS:
        path = args.models / f"{case.name}.onnx"
        if case.preprocess is OCR and path.is_file() and (not args.only or case.name in args.only):
            print(_row(case, path, fonts, args), flush=True)


def _row(case: Case, path: Path, fonts: list[Path], args: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as folder:
        quantized, cells = _calibrated(case, path, Path(folder), args)
        found = compare(case, path, quantized, fonts, args.count)
        ratio = _speed(case, path, quantized)
    fit = "" if found.fit is None else f"{found.fit:.0f}"
    figures = f"{found.same:.1f} | {found.parts:.1f} | {fit} | {found.snr:.1f} | {ratio}"
    return f"| {case.name} | {cells[0]} | {figures} | {' | '.join(cells[1:])} |"


def _calibrated(case: Case, path: Path, folder: Path, args: argparse.Namespace) -> tuple[Path, list[str]]:
    if args.quantized is not None:
        return args.quantized / path.name, ["as given", "", "", ""]
    options: dict[str, Any] = dict(part.split("=", 1) for part in args.option)
    options = {name: _option(name, value) for name, value in options.items()}
    if args.drawn:
        height, width = next(iter(case.shapes.values()))[2:]
        options["data"] = Samples(_inputs(_drawn(case, find_fonts(args.fonts), args.drawn, (height, width), SEED + 1)))
    else:
        options |= {"synth": "procedural", **({} if args.samples is None else {"count": args.samples})}
    result = calibrate(path, preprocess=case.preprocess, input_shapes=case.shapes, output=folder / "out", **options)
    assert result.model_path is not None
    report = result.report
    steps = [step for step in (report.get("remedies") or {}).get("steps", []) if step["kept"]]
    slowdown = next((f"{step['slowdown']:.2f}" for step in reversed(steps) if step["slowdown"]), "")
    names = ", ".join(step["what"] for step in steps) or "none"
    seconds = sum(report["seconds"].values())
    return result.model_path, [report["verdict"]["status"], slowdown, names, f"{seconds:.0f}"]


def _option(name: str, text: str) -> float | str | list[str]:
    if name.startswith("max"):
        return float(text)
    return text.split(",") if name in ("refine", "keep_float") else text


def _speed(case: Case, path: Path, quantized: Path) -> str:
    shape = next(iter(case.shapes.values()))
    pair = [Runner(file, quiet_threads=True, threads=1) for file in (path, quantized)]
    speed = speed_of(pair[0], pair[1], Samples(np.zeros(shape, np.float32)), 1.0)
    return "" if speed is None else f"{speed.ratio:.2f}"


if __name__ == "__main__":
    main()
