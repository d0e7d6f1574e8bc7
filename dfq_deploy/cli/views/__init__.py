"""What the commands print: progress, results, lists.

============== ===================================================================================
``checking``   Print the result of ``check``: violations by rule, then the verdict.
``evaluation`` Print the verdict of evaluate: the user's own metric, the gates, and the last line.
``inspection`` Print the result of ``inspect``.
``listing``    Print ``targets`` and ``methods``, as tables and as JSON.
``progress``   Progress on stderr: bars on a terminal, lines elsewhere.
``remedies``   Print the remedies that were tried.
``results``    Print the results of calibrate, finetune, export, evaluate and synthesize.
``tables``     Building blocks of what commands print: tables, facts, warnings, sizes.
``verdict``    Print a verdict, and the layers that hurt.
============== ===================================================================================
"""
