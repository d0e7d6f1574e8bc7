"""Float against quantized: figures, latency, where it goes wrong, and the report."""

from dfq_deploy.evaluation.compare import Comparison, compare
from dfq_deploy.evaluation.latency import Latency, latencies
from dfq_deploy.evaluation.layers import TensorDistance, tensor_distances
from dfq_deploy.evaluation.metrics import OutputDistance, Scores
from dfq_deploy.evaluation.models import Evaluation, evaluate
from dfq_deploy.evaluation.report import write_report
from dfq_deploy.evaluation.runner import Runner

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
