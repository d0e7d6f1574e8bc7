"""Calibrators: one file per algorithm. Installed as ``dfq_deploy.calibrators``."""
