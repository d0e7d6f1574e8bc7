"""Calibration data made from the model: one file per method."""
