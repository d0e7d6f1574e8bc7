"""Runtimes to quantize for, as data.

=========== =======================================
``catalog`` The targets: what each runtime accepts.
``target``  The Target dataclass.
=========== =======================================
"""
