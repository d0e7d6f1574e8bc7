"""What an installed package holds: the wheel, unpacked, against the checkout."""

import ast
import importlib
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from email import message_from_string
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

import dfq_deploy
from benchmarks.dependency_versions import requirements

PACKAGES = {"dfq_deploy": "dfq_deploy", "calibrators": "dfq_deploy/calibrators", "exporters": "dfq_deploy/exporters"}
"""Folder in the checkout -> place in the installed package."""


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from a copy of what the build reads, so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        (source / name).symlink_to(checkout / name)
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = built.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def _checkout_modules(checkout: Path) -> dict[str, Path]:
    """Place in the installed package -> file in the checkout."""
    return {
        str(PurePosixPath(installed, file.relative_to(checkout / folder).as_posix())): file
        for folder, installed in PACKAGES.items()
        for file in (checkout / folder).rglob("*.py")
    }


DATA = ("samples/calibration_photographs", "samples/photograph_files", "report/templates")
"""Folders of files that are no modules."""


def _checkout_data(checkout: Path) -> dict[str, Path]:
    """Photographs, the lists of their sources and the report's templates, as :func:`_checkout_modules` has modules."""
    return {
        f"dfq_deploy/{folder}/{file.name}": file
        for folder in DATA
        for file in (checkout / "dfq_deploy" / folder).iterdir()
    }


def test_wheel_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile, checkout: Path) -> None:
    modules = _checkout_modules(checkout)
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    shipped = _checkout_data(checkout)
    assert packed == {*modules, *shipped, "dfq_deploy/py.typed", "dfq_deploy/__init__.pyi"}
    for name, file in (modules | shipped).items():
        assert wheel.read(name) == file.read_bytes(), name


def test_wheel_takes_one_top_level_name(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert tops == {"dfq_deploy"}


def test_wheel_says_what_it_is(wheel: zipfile.ZipFile, checkout: Path) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    fields = message_from_string(wheel.read(metadata).decode())
    declared = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    assert (fields["Name"], fields["Version"]) == (declared["name"], declared["version"])
    assert fields["License-Expression"] == "Apache-2.0"
    assert metadata.replace("METADATA", "licenses/LICENSE") in wheel.namelist()
    required = {field for field in fields.get_all("Requires-Dist", []) if "extra ==" not in field}
    assert required == set(declared["dependencies"])


def test_entry_points_of_the_wheel_resolve_inside_it(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    parser = ConfigParser(delimiters=("=",))
    parser.read_string(wheel.read(name).decode())
    entries = [(group, key, value) for group in parser.sections() for key, value in parser[group].items()]
    assert ("console_scripts", "dfq-deploy") in {(group, key) for group, key, _ in entries}
    for _, _, value in entries:
        module, _, attribute = value.partition(":")
        stem = module.replace(".", "/")
        assert {f"{stem}.py", f"{stem}/__init__.py"} & set(wheel.namelist()), value
        assert callable(getattr(importlib.import_module(module), attribute)), value


def test_every_folder_of_modules_is_a_listed_package(checkout: Path) -> None:
    listed = set(tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {str(PurePosixPath(name).parent).replace("/", ".") for name in _checkout_modules(checkout)}
    assert folders == listed


def test_constraints_pin_every_requirement_exactly(checkout: Path) -> None:
    lines = (checkout / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name = requirement.name
        assert name in pins, f"{name} is not pinned in constraints.txt"
        assert version(name).partition("+")[0] == pins[name], f"{name} is not installed as pinned"


def test_each_end_of_the_dependencies_can_be_installed() -> None:
    declared = ["click>=8.4", "torch>=2.6,<3"]
    assert requirements(declared, "oldest") == ["click==8.4", "torch==2.6"]
    assert requirements(declared, "newest", ["torch==2.13.0"]) == ["click>=8.4", "torch==2.13.0"]
    with pytest.raises(ValueError, match="'click<9' has no lower bound"):
        requirements(["click<9"], "oldest")
    with pytest.raises(ValueError, match=r"--with numpy==2\.0: no requirement of pyproject\.toml has that name"):
        requirements(declared, "oldest", ["numpy==2.0"])


def test_table_of_contents_is_complete_and_loads() -> None:
    assert len(dfq_deploy.__all__) == len(set(dfq_deploy.__all__))
    for name in dfq_deploy.__all__:
        assert getattr(dfq_deploy, name) is not None
    assert set(dfq_deploy.__all__) <= set(dir(dfq_deploy))
    assert dfq_deploy.__version__ == version("dfq-deploy")
    with pytest.raises(AttributeError, match="module 'dfq_deploy' has no attribute 'calibrat'"):
        _ = dfq_deploy.calibrat  # type: ignore[attr-defined]


def test_the_stub_names_the_modules_that_define(checkout: Path) -> None:
    tree = ast.parse((checkout / "dfq_deploy/__init__.pyi").read_text())
    imports = [
        (node.module, alias.name) for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert [name for _, name in imports] == [name for name in dfq_deploy.__all__ if name != "__version__"]
    for module, name in imports:
        assert name in _listed(ast.parse(Path(str(importlib.import_module(str(module)).__file__)).read_text())), name  # type: ignore[operator]


@pytest.mark.parametrize("statement", ["import dfq_deploy", "from dfq_deploy import DfqError, Encoding, find_target"])
def test_importing_the_package_imports_nothing_heavy(statement: str) -> None:
    check = f"import sys; {statement}; print(*sorted({{'torch', 'onnx', 'onnxruntime', 'PIL'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_public_lists_name_what_is_there_and_public(checkout: Path) -> None:
    for name, file in _checkout_modules(checkout).items():
        tree = ast.parse(file.read_text())
        listed = _listed(tree)
        if listed is None:
            continue
        assert not [entry for entry in listed if entry.startswith("_") and not entry.startswith("__")], name
        assert len(listed) == len(set(listed)), f"{name} lists a name twice"
        module = importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        for entry in listed:
            assert hasattr(module, entry), f"{name} lists '{entry}', which is not there"


def test_what_one_module_takes_from_another_is_listed_there(checkout: Path) -> None:
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): ast.parse(file.read_text())
        for name, file in _checkout_modules(checkout).items()
    }
    listed = {name: _listed(tree) for name, tree in modules.items()}
    unlisted = [
        f"{name} takes '{alias.name}' from {node.module}"
        for name, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in modules
        for alias in node.names
        if f"{node.module}.{alias.name}" not in modules and alias.name not in (listed[node.module] or [alias.name])
    ]
    assert not unlisted, "; ".join(unlisted)


def _listed(tree: ast.Module) -> list[str] | None:
    """What ``__all__`` holds, or None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            if any(isinstance(entry, ast.Starred) for entry in getattr(node.value, "elts", ())):
                return None  # dfq_deploy/__init__.py reads its names from the stub
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None
