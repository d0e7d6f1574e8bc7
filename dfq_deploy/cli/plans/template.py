"""Write a plan with comments from what ``inspect`` finds."""

import json
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from dfq_deploy.cli.views.tables import size
from dfq_deploy.errors import printable
from dfq_deploy.samples.preprocess import PREPROCESSES

if TYPE_CHECKING:
    from dfq_deploy.inspection.inspect import Inspection, TensorInfo

__all__ = ["plan_text"]

WIDTH = 100
"""Of comments, in characters."""

PREFERRED = "deepinversion"
"""The method of the plan where it applies."""


def plan_text(models: Sequence[tuple[str, "Inspection"]], targets: Sequence[str]) -> str:
    """A plan for the models, each with its path as it stands in the plan."""
    head = [
        *_comment(
            "A plan of dfq-deploy. Check it with `dfq-deploy run PLAN --list`, run it with `dfq-deploy run PLAN`."
        ),
        *_comment("Keys are the long options of `dfq-deploy calibrate`; paths are relative to this file."),
        "",
        "[defaults]  # for every model that states nothing else",
        f"targets = {json.dumps(list(targets))}  # `dfq-deploy targets` lists all",
        'floor = "ok"  # try remedies below: ok, agreement=99 (percent), snr=20 (dB), or none',
        "seed = 0",
    ]
    return "\n".join([*head, *(line for path, found in models for line in _model(path, found))]) + "\n"


def _model(path: str, found: "Inspection") -> Iterator[str]:
    yield from ("", "[[model]]")
    yield from _comment(f"{_shapes('in', found.inputs)}; {_shapes('out', found.outputs)}; {_figures(found)}")
    yield f"path = {_string(path)}"
    yield from _preprocess(found)
    yield from _synthesis(found)
    yield "# samples = 256  # how many samples; by default it depends on the size of the input"
    yield '# data = "photos"  # in place of synth: a folder or zip of images, an .npz or .npy'
    yield '# bits = "w8a8"'
    yield f"# keep-float = [{_string(_last_layer(found))}]  # nodes that stay in float: names, operators, patterns"
    yield '# output = "int8"  # the folder for the results, each in MODEL-TARGET'
    for note in found.notes:
        yield from ("#", *_comment(f"Note: {note}."))
    for advice in found.advice:
        yield from ("#", *_comment(f"Note: {advice.problem}. Way out: {advice.way_out}"))
        yield from (f"#   {printable(line)}" for line in advice.lines)


def _preprocess(found: "Inspection") -> Iterator[str]:
    """The preprocess is not in the file: it has to be filled in."""
    shape = next((info.shape for info in found.inputs if info.shape is not None and len(info.shape) == 4), None)
    if shape is not None:
        yield from _comment(
            "How pixels become the input, which no file says: fill it in. It bounds the samples, and gives the exact "
            f"range of the input: {', '.join(PREPROCESSES)}, or mean and std of pixel / 255."
        )
        yield '# preprocess = "imagenet"'
        colored = 3 in (shape[1], shape[3])
        yield f"# mean = {'[0.485, 0.456, 0.406]' if colored else '[0.5]'}"
        yield f"# std = {'[0.229, 0.224, 0.225]' if colored else '[0.5]'}"


def _synthesis(found: "Inspection") -> Iterator[str]:
    """The method, and the teacher where no statistics are left."""
    fit = next((fit for fit in found.methods if fit.name == PREFERRED), None)
    if fit is not None and fit.applies:
        yield f"synth = {_string(PREFERRED)}  # {found.batch_normalizations} BatchNormalization layers to match"
        return
    yield 'synth = "auto"  # the best at these bits, by benchmarks'
    if fit is not None:
        yield from _comment(f"{PREFERRED} {fit.reason}")
        yield '# teacher = ["with_batch_norm.onnx"]'


def _figures(found: "Inspection") -> str:
    classes = "" if found.classes is None else f"{found.classes} classes, "
    sizes = f"{size(found.file_bytes)}, about {size(found.quantized_bytes)} in INT8"
    return f"{classes}{found.parameters:,} parameters, {sizes}"


def _shapes(direction: str, tensors: "Sequence[TensorInfo]") -> str:
    shown = [
        f"{tensor.name} {'of unknown shape' if tensor.shape is None else list(tensor.shape)}" for tensor in tensors[:4]
    ]
    return f"{direction} {', '.join(shown)}".replace("'", "")


def _last_layer(found: "Inspection") -> str:
    return found.kernels.kernels[-1].name if found.kernels.kernels else "Gemm"


def _comment(text: str) -> list[str]:
    """A comment, in lines of at most :data:`WIDTH` characters."""
    return [f"# {line}" for line in wrap(printable(" ".join(text.split())), WIDTH - 2, break_long_words=False)]


def _string(text: str) -> str:
    """A TOML string: JSON's form is one, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
