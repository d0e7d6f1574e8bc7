"""Measurements behind the README's figures; each is a module to run: ``python -m benchmarks.accuracy``."""
