"""The version matrix. ``pip install nox``, then ``nox`` for all, ``nox -s tests-3.12`` for one."""

import nox

nox.options.sessions = ["tests"]


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests with the versions of constraints.txt."""
    session.install("--constraint", "constraints.txt", "torch", "setuptools")
    session.install("--constraint", "constraints.txt", "--no-build-isolation", "--editable", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.11")
def minimum(session: nox.Session) -> None:
    """Run the tests of the command line with the oldest versions that pyproject.toml allows."""
    declared = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
    session.install(*(requirement.replace(">=", "==") for requirement in declared))
    session.install("--editable", ".", "pytest>=9", "scikit-learn>=1.5")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/cli"]))


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """Run the tests of the command line with the newest versions of everything."""
    session.install("--upgrade", "--editable", ".", "pytest", "scikit-learn")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/cli"]))
