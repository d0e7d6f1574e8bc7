"""Time the nodes of a model by ONNX Runtime's profiler."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from dfq_deploy.graph.reading import ModelSource, source_name
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.tagged import tag
from dfq_deploy.samples.samples import Samples

__all__ = ["NodeTime", "node_times"]

RUNS = 10

SUFFIX = "_kernel_time"
"""How the profiler ends the name of the event for one run of a kernel."""


@dataclass(frozen=True)
class NodeTime:
    """What one kernel takes.

    Args:
        name: of the node in the file that it stands for; the kernel's own where ONNX Runtime made it anew.
        kernel: the operator that runs.
        milliseconds: median over the runs of the model.
    """

    name: str
    kernel: str
    milliseconds: float


def node_times(source: ModelSource, batch: Samples, runs: int = RUNS) -> tuple[NodeTime, ...]:
    """The kernels of a model, the slowest first, timed on one thread.

    Args:
        batch: samples, of a count that the model takes.
        runs: that the times are the medians of, after one that is not counted.

    Raises:
        ModelError: it cannot be read or run.
        SamplesError: the samples do not fit.
    """
    tagged = tag(source)
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * runs)
    with TemporaryDirectory() as folder:
        runner = Runner(
            tagged.model, name=source_name(source), quiet_threads=True, threads=1, profile=Path(folder) / "profile"
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
    found = (NodeTime(name, kernel, median(times)) for (name, kernel), times in totals.items())
    return tuple(sorted(found, key=lambda entry: -entry.milliseconds))
