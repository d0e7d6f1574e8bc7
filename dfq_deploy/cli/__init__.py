"""The command line. Nothing heavy is imported before a command runs.

================== =====================================================================================
``arguments``      Turn command-line options into the objects that the library takes.
``calibrate``      ``dfq-deploy calibrate``.
``check``          ``dfq-deploy check``.
``evaluate``       ``dfq-deploy evaluate``.
``export``         ``dfq-deploy export``.
``failures``       Report errors in one line on stderr, with ``--json`` also as one object on stdout.
``finetune``       ``dfq-deploy finetune``.
``generators``     Keep the generator that ``dfq-deploy synthesize`` trained.
``main``           The command group, and the commands inspect, targets and methods.
``metric_file``    Read ``--metric FILE.py:FUNCTION``, which runs the user's own code.
``names``          Click parameter types for names: checked, and completed by the shell.
``option_types``   Click parameter types: numbers, sizes, shapes, ranges, teachers.
``options``        Options that several commands share.
``plans``          Plans: several models and targets in one file, for ``dfq-deploy run`` and ``dfq-deploy init``.
``plugin_options`` ``--option KEY=VALUE``: read from the fields of a plug-in's dataclass.
``resuming``       Keep or remove the folder of an unfinished synthesis.
``shell``          Common options of all commands, the way a command runs, and how it ends.
``synthesize``     ``dfq-deploy synthesize``.
``views``          What the commands print: progress, results, lists.
================== =====================================================================================
"""

from dfq_deploy.cli.main import main

__all__ = ["main"]
