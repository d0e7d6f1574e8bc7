"""Runtimes to quantize for, as data.

=========== =============================================================================
``catalog`` The targets and what each runtime accepts; add a new one to ``TARGETS`` here.
``target``  The Target dataclass.
=========== =============================================================================
"""
