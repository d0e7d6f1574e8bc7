"""Runtimes to quantize for, as data.

================== =============================================================================
``catalog``        The targets and what each runtime accepts; add a new one to ``TARGETS`` here.
``operator_lists`` Operators that runtimes list as their own, each set that of one version.
``target``         The Target dataclass.
================== =============================================================================
"""
