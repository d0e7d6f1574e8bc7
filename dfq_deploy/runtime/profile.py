"""Time the nodes of a model with ONNX Runtime's profiler."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from dfq_deploy.graph.reading import ModelSource, source_name
from dfq_deploy.runtime.plugin_nodes import plugin_nodes, runnable_part
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.tagged import tag
from dfq_deploy.samples.samples import Samples

__all__ = ["NodeTime", "node_times"]

RUNS = 10

SUFFIX = "_kernel_time"
"""Suffix of the profiler's event name for one run of a kernel."""


@dataclass(frozen=True)
class NodeTime:
    """The time of one kernel.

    Args:
        name: name of the node in the file, or of the kernel if ONNX Runtime created it.
        kernel: the operator that runs.
        milliseconds: median over the runs of the model.
    """

    name: str
    kernel: str
    milliseconds: float


def node_times(source: ModelSource, batch: Samples, runs: int = RUNS) -> tuple[NodeTime, ...]:
    """Time the kernels of a model on one thread; the slowest comes first.

    Args:
        batch: samples, in a batch size that the model supports.
        runs: number of runs for the median, after one warm-up run.

    Raises:
        ModelError: the model cannot be read or run.
        SamplesError: the samples do not fit the model.
    """
    tagged = tag(source)
    # A session that cannot load its model complains on stderr that it has no profile.
    model = runnable_part(tagged.model) if plugin_nodes(tagged.model) else tagged.model
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * runs)
    with TemporaryDirectory() as folder:
        runner = Runner(
            model, name=source_name(source), quiet_threads=True, threads=1, profile=Path(folder) / "profile"
        )
        for _ in range(runs + 1):
            runner.feed(batch)
        path = Path(str(runner.session.end_profiling()))
        events = json.loads(path.read_text(encoding="utf-8"))
    timed = [event for event in events if event.get("cat") == "Node" and str(event["name"]).endswith(SUFFIX)]
    size = len(timed) // (runs + 1)
    for run in range(1, runs + 1):
        for event in timed[run * size : (run + 1) * size]:
            name = tagged.name(str(event["name"]).removesuffix(SUFFIX))
            totals[name, str(event["args"]["op_name"])][run - 1] += event["dur"] / 1000
    node_times = (NodeTime(name, kernel, median(times)) for (name, kernel), times in totals.items())
    return tuple(sorted(node_times, key=lambda entry: -entry.milliseconds))
