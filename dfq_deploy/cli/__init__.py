"""The command line: a thin shell. Each command parses, calls one public function, and prints.

Nothing heavy is imported before a command runs, so that ``dfq-deploy --help`` answers at once.
"""

from dfq_deploy.cli.commands import main

__all__ = ["main"]
