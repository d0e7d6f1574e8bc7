"""A detector for the reports."""

from tests.evaluation.detection.conftest import squares

__all__ = ["squares"]
