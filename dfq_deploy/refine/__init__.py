"""Collect the effect of quantization and take it back out, from samples alone."""
