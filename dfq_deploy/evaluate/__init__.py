"""Float against quantized: figures, latency, where it goes wrong, and the report."""

from dfq_deploy.evaluate.compare import Comparison, Evaluation, compare, evaluate
from dfq_deploy.evaluate.latency import Latency, latencies
from dfq_deploy.evaluate.layers import TensorDistance, tensor_distances
from dfq_deploy.evaluate.metrics import OutputDistance, Scores
from dfq_deploy.evaluate.report import write_report
from dfq_deploy.evaluate.runner import Runner

__all__ = [  # noqa: RUF022 - in groups
    # two models on the same samples
    "evaluate",
    "compare",
    "Evaluation",
    "Comparison",
    "OutputDistance",
    "Scores",
    # tensor by tensor, and in time
    "tensor_distances",
    "TensorDistance",
    "latencies",
    "Latency",
    "Runner",
    # for people
    "write_report",
]
