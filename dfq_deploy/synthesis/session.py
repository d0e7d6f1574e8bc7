"""From a model and a method's name to samples: picks the teacher, the sizes and the fallback."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir
import torch

from dfq_deploy import graph, plugins
from dfq_deploy.contracts import Synthesizer
from dfq_deploy.errors import DfqError, ModelError
from dfq_deploy.preprocess import Preprocess
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples import Samples
from dfq_deploy.synthesis.request import SynthesisRequest
from dfq_deploy.twin import Twin

__all__ = ["FALLBACK", "default_count", "pick_device", "synthesize_from"]

FALLBACK = "procedural"
"""What serves where a method needs statistics and no BatchNormalization is left."""


def synthesize_from(
    model: ir.Model,
    synth: str | Synthesizer,
    teachers: Sequence[ir.Model],
    *,
    count: int | None,
    preprocess: Preprocess | None,
    seed: int,
    device: str,
    progress: Progress = SILENT,
) -> Samples:
    """Samples for ``model``, from ``teachers`` (or from the model itself where there are none).

    Raises:
        ModelError: a teacher does not fit the model, or the graph cannot be inverted.
        PluginError: no method of that name is installed.
    """
    for teacher in teachers:
        _refuse_misfit(model, teacher)
    name = synth if isinstance(synth, str) else type(synth).__name__.lower()
    method: Synthesizer = plugins.find("synthesizers", synth)() if isinstance(synth, str) else synth
    sources = list(teachers) or [model]
    notes: tuple[str, ...] = ()
    if method.needs_statistics and not any(graph.batch_normalizations(source) for source in sources):
        notes = (
            f"{name} matches BatchNormalization statistics and none are left in the model (exporters fold them), so "
            f"{FALLBACK} samples were used; for better ones give the same network exported with its BatchNormalization "
            "as --teacher",
        )
        name, method = FALLBACK, plugins.find("synthesizers", FALLBACK)()
    shape = graph.sample_shape(model)
    request = SynthesisRequest(
        count=default_count(shape) if count is None else count,
        shape=shape,
        classes=graph.score_count(model),
        preprocess=preprocess,
        seed=seed,
        device=pick_device(device),
    )
    twins = [_twin(source, request.device) for source in sources] if method.needs_statistics else []
    samples = method.synthesize(twins, request, progress)
    return replace(samples, method=name, notes=(*samples.notes, *notes))


def default_count(shape: tuple[int, ...]) -> int:
    """256 small images, or as many as a CPU inverts in a few minutes where they are large."""
    return 256 if len(shape) != 3 or shape[1] * shape[2] <= 64 * 64 else 64


def pick_device(device: str) -> str:
    """``auto`` becomes the first GPU, or the CPU where there is none.

    Raises:
        DfqError: the device is not on this machine.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise DfqError(f"device '{device}' is not to be had here ({reason}); use --device cpu or auto") from None
    return device


def _refuse_misfit(model: ir.Model, teacher: ir.Model) -> None:
    facts = {"input shape": graph.sample_shape, "number of classes": graph.score_count}
    for fact, of in facts.items():
        expected, found = of(model), of(teacher)
        if expected != found:
            raise ModelError(
                f"--teacher does not fit the model: its {fact} is {found}, the model's {expected}; give the same "
                "network exported with its BatchNormalization"
            )


def _twin(model: ir.Model, device: str) -> Twin:
    twin = Twin.from_model(model).to(device)
    return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
