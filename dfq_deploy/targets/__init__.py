"""Target runtimes and their requirements, as data.

=========== =======================================
``catalog`` The targets: what each runtime accepts.
``target``  The Target dataclass.
=========== =======================================
"""
