"""Judge whether a quantized model runs in integers, and faster than the float model."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from dfq_deploy.evaluation.latency import EQUAL, Speed, speed_of, speed_of_times
from dfq_deploy.graph.inputs import make_feeds
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import write_model
from dfq_deploy.runtime.kernel_count import KernelCount, named, short_name
from dfq_deploy.runtime.kernels import SAME_KERNELS, count_kernels
from dfq_deploy.runtime.profile import NodeTime, node_times
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.wasm import times_in_wasm, web_version
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level

__all__ = ["count_findings", "judge_speed", "slow_nodes", "speed_findings"]

SMALL_MS = 0.1
"""Milliseconds a run that calls and conversions may cost: a model that loses no more than that is slower, but not BAD,
and one that takes less than that is not worth a word for being as fast as float."""

FLOAT_SHARE = 0.1
"""Part of the products, or where those are unknown of the layers, that may be float without a word of caution."""

NAMED = 2
"""How many nodes of an operator, and how many operators, a sentence names."""

WEB = "web"
"""The target that runs in browsers: its graph is that of this machine, its speed is not."""

WEB_REMEDY = (
    "ship the float model where its size is no matter, and compare both in the browsers that count: examples/web"
)

NOT_QUANTIZED = "inspect with --verbose reports why each of them stays float"


def speed_findings(
    float_model: str | PathLike[str] | ir.Model,
    quantized: Path,
    samples: Samples,
    *,
    target: str = "cpu",
    count: KernelCount | None = None,
    seconds: float = 1.5,
) -> tuple[Finding, ...]:
    """Count the layers of a quantized file that run in integers, and time it against the float model in turn.

    Only targets that run as this machine's ONNX Runtime does are timed (:data:`SAME_KERNELS`), and ``web`` where Node
    finds onnxruntime-web; of others the layers
    are counted by the placement of Q and DQ, and a finding says so.

    Args:
        float_model: its file, or the model that :func:`dfq_deploy.graph.loading.load` gave.
        samples: at least one; the first ones are run.
        count: the layers of ``quantized``, where they were counted before.
        seconds: about how long the timing takes; naming slow nodes takes some runs more.

    Raises:
        ModelError: a model cannot be run.
        SamplesError: the samples do not fit.
    """
    count = count_kernels(quantized, target) if count is None else count
    if not (count.integer or count.weight_only or count.conversions):
        return count_findings(count)  # a float model, which would be timed against itself
    if target == WEB:
        return (*count_findings(count), _in_the_browser(float_model, quantized, samples, count, seconds))
    if target not in SAME_KERNELS:
        return (*count_findings(count), _unmeasured(f"{target} does not run on this machine"))
    pair = [Runner(model, quiet_threads=True, threads=1) for model in (_runnable(float_model), quantized)]
    speed = speed_of(pair[0], pair[1], samples, seconds)
    if speed is None:
        return (*count_findings(count), _unmeasured("the two models are fixed to different batch sizes"))
    slow = slow_nodes(float_model, quantized, samples, speed) if speed.ratio < EQUAL[1] else ()
    return (*count_findings(count), judge_speed(speed, count, slow))


def count_findings(count: KernelCount) -> tuple[Finding, ...]:
    """What the layers of a quantized file run in: ``layers-in-int8``, ``layers-in-float`` or ``nothing-quantized``."""
    figures: dict[str, float] = {"integer": count.integer, "weight_only": count.weight_only, "total": count.total}
    if count.share is not None:
        figures["integer_share"] = count.share
    remedy = count.way_out or NOT_QUANTIZED
    if not count.total:
        message = "nothing is quantized: the model has no convolution, matrix product or recurrent layer"
        return (Finding("nothing-quantized", "BAD", message, "check that it is the network that you mean", figures),)
    if not count.integer and not count.weight_only:
        message = f"nothing runs in INT8: all {count.total} layers are float, {named(count.in_float)}"
        return (Finding("nothing-quantized", "BAD", message, remedy, figures),)
    if not count.in_float:
        return (Finding("layers-in-int8", "OK", str(count), figures=figures),)
    message = f"{count}; float in {count.runtime}: {named(count.in_float)}"
    level: Level = "CHECK" if count.float_share > FLOAT_SHARE else "OK"
    return (Finding("layers-in-float", level, message, remedy, figures),)


def judge_speed(
    speed: Speed, count: KernelCount, slow: Sequence[NodeTime] = (), where: str = "one thread of this CPU"
) -> Finding:
    """One of ``slower-than-float``, ``as-fast-as-float`` and ``faster-than-float``.

    Slower is BAD where the whole interval is below :data:`dfq_deploy.evaluation.latency.EQUAL` and more than
    :data:`SMALL_MS` is lost; else it is worth a look, as is what is about as fast as float.

    Args:
        slow: the nodes to blame, the slowest first (:func:`slow_nodes`).
        where: what was timed.
    """
    figures = {name: float(value) for name, value in speed.to_json().items()}
    times = (
        f"{speed.quantized_ms:.3g} ms against {speed.float_ms:.3g} ms in float: {speed.ratio:.2f} times as fast "
        f"({speed.low:.2f} to {speed.high:.2f}, {where})"
    )
    if speed.ratio < EQUAL[0]:
        lost = speed.quantized_ms - speed.float_ms
        level: Level = "BAD" if speed.high < EQUAL[0] and lost > SMALL_MS else "CHECK"
        message = f"slower than float: {times}{_blamed(slow)}"
        return Finding("slower-than-float", level, message, _slow_remedy(count, slow), figures)
    if speed.ratio < EQUAL[1]:
        message = f"about as fast as float: {times}{_blamed(slow)}"
        level = "OK" if speed.quantized_ms < SMALL_MS else "CHECK"
        return Finding("as-fast-as-float", level, message, _slow_remedy(count, slow), figures)
    return Finding("faster-than-float", "OK", f"faster than float: {times}", figures=figures)


def _in_the_browser(
    float_model: str | PathLike[str] | ir.Model, quantized: Path, samples: Samples, count: KernelCount, seconds: float
) -> Finding:
    """Time both in WebAssembly, where Node finds onnxruntime-web."""
    version = web_version()
    if not version:
        return _unmeasured(
            "a browser runs WebAssembly, where INT8 may be slower than float; Node and onnxruntime-web measure it here",
            "npm install onnxruntime-web in the working folder, or open examples/web in the browser",
        )
    runner = Runner(quantized)
    batch = samples.part(np.arange(runner.batch or 1) % len(samples))
    with TemporaryDirectory() as folder:
        reference = Path(folder) / "float.onnx"
        write_model(float_model if isinstance(float_model, ir.Model) else load(float_model), reference)
        feeds = make_feeds(runner.ports, batch.images, batch.extra)
        times = times_in_wasm((reference, quantized), feeds, seconds=seconds)
    speed = speed_of_times(len(batch), times)
    finding = judge_speed(speed, count, (), f"one thread of WebAssembly in Node, onnxruntime-web {version}")
    return finding if finding.level == "OK" else replace(finding, remedy=WEB_REMEDY)


def slow_nodes(
    float_model: str | PathLike[str] | ir.Model, quantized: Path, samples: Samples, speed: Speed
) -> tuple[NodeTime, ...]:
    """The nodes that cost most beyond what the float model takes for the node of the same name, the costliest first.

    Their times are that difference, by ONNX Runtime's profiler.
    """
    batch = samples.part(np.arange(speed.batch) % len(samples))
    reference = float_model if isinstance(float_model, ir.Model) else load(float_model)
    known: dict[str, float] = {}
    for entry in node_times(reference, batch):
        known[entry.name] = known.get(entry.name, 0.0) + entry.milliseconds
    lost = [
        NodeTime(entry.name, entry.kernel, entry.milliseconds - known.get(entry.name, 0.0))
        for entry in node_times(quantized, batch)
    ]
    return tuple(sorted((entry for entry in lost if entry.milliseconds > 0), key=lambda entry: -entry.milliseconds))


def _runnable(model: str | PathLike[str] | ir.Model) -> Path | ir.Model:
    return model if isinstance(model, ir.Model) else Path(model)


def _unmeasured(reason: str, remedy: str = "time it on the device") -> Finding:
    return Finding("speed-not-measured", "OK", f"speed was not measured: {reason}", remedy)


def _blamed(slow: Sequence[NodeTime]) -> str:
    """The operators that lose most time, with their costliest nodes."""
    lost: dict[str, float] = {}
    for entry in slow:
        lost[entry.kernel] = lost.get(entry.kernel, 0.0) + entry.milliseconds
    worst = sorted(lost, key=lambda kernel: -lost[kernel])[:NAMED]
    listed = []
    for kernel in worst:
        names = [f"'{short_name(entry.name)}'" for entry in slow if entry.kernel == kernel]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        listed.append(f"{kernel} (+{lost[kernel]:.2g} ms: {', '.join(names[:NAMED])}{more})")
    return f"; the time goes to {', '.join(listed)}" if listed else ""


def _slow_remedy(count: KernelCount, slow: Sequence[NodeTime]) -> str:
    if count.dequantized and count.float_share > FLOAT_SHARE:
        return count.way_out
    layers = {kernel.name for kernel in count.kernels}
    around = sum(entry.milliseconds for entry in slow if entry.name not in layers)
    if around > 0.5 * sum(entry.milliseconds for entry in slow):
        return "float operators between integer layers cost more than these gain: keep the float model for this runtime"
    return "the integer kernels are slower for layers of this form: keep the float model where its size is no matter"
