"""``python -m dfq_deploy`` is the command ``dfq-deploy``."""

import signal
import sys

__all__ = ["run"]


def run() -> None:
    """Run the command line; an interrupt while it is imported ends in one line, like every later one."""
    try:
        from dfq_deploy.cli import main

        main(prog_name="dfq-deploy")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
    finally:  # all is said: Ctrl-C while the interpreter shuts down would print a traceback
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    run()
