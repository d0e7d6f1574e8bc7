"""The version matrix: ``pip install nox``, then

``nox``                                runs all tests on every version of Python
``nox -s tests-3.12``                  on one
``nox -s 'dependencies(oldest)'``      runs those of the command line with the oldest dependencies, or the newest
"""

import nox

nox.options.sessions = ["tests"]


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests with the versions of constraints.txt."""
    session.install("--constraint", "constraints.txt", "torch", "setuptools")
    session.install("--constraint", "constraints.txt", "--no-build-isolation", "--editable", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("which", [nox.param("oldest", id="oldest"), nox.param("newest", id="newest")])
def dependencies(session: nox.Session, which: str) -> None:
    """Run the tests of the command line with the oldest or the newest dependencies that pyproject.toml allows."""
    session.install("packaging")
    session.run("python", "-m", "benchmarks.dependency_versions", which, *session.posargs)
