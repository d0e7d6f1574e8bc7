"""Exporters: one file per kind of file. Installed as ``dfq_deploy.exporters``."""
