"""``python -m dfq_deploy`` is the command ``dfq-deploy``."""

from dfq_deploy.cli import main

if __name__ == "__main__":
    main(prog_name="dfq-deploy")
