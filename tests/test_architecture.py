"""The layout: one direction of imports, few modules at the top, tables of contents that tell the truth."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ORDER = (
    ("errors", "progress", "encodings"),
    ("files",),
    ("validation",),
    ("targets",),
    ("graph",),
    ("samples",),
    ("runtime",),
    ("twin",),
    ("plugins",),
    ("synthesis", "quantization"),
    ("checking",),
    ("refinement",),
    ("evaluation",),
    ("qat",),
    ("verdict",),
    ("report", "inspection"),
    ("pipeline",),
    ("cli",),
)
"""Packages and modules from the ground up; each imports from rows above its own, never from below or beside."""

MAXIMUM_AT_TOP = 8
MAXIMUM_IN_PACKAGE = 15
FLAT = {"twin/ops", "synthesis/methods"}
"""Packages of one file for each operator family or method."""

PLUGIN_FOLDERS = ("calibrators", "exporters")

LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def _modules(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(folder.rglob("*.py")):
        yield str(file.relative_to(folder)), ast.parse(file.read_text(encoding="utf-8"))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Packages of dfq_deploy that a module imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "dfq_deploy":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dfq_deploy."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("dfq_deploy."))


def test_imports_run_one_way(checkout: Path) -> None:
    wrong = []
    for file, tree in _modules(checkout / "dfq_deploy"):
        package = file.split("/")[0].removesuffix(".py")
        if package in ("__init__", "__main__", "testing"):
            continue
        for other in _imported(tree):
            if other not in (package, "__version__") and LEVEL[other] >= LEVEL[package]:
                wrong.append(f"{file} imports dfq_deploy.{other}")
    assert not wrong, "; ".join(wrong)


@pytest.mark.parametrize("plugins", PLUGIN_FOLDERS)
def test_plugins_import_the_core_and_the_core_no_plugin(checkout: Path, plugins: str) -> None:
    other = {"calibrators": "exporters", "exporters": "calibrators"}[plugins]
    assert not [file for file, tree in _modules(checkout / plugins) if {other, "cli"} & set(_imported(tree))]
    assert not [file for file, tree in _modules(checkout / "dfq_deploy") if plugins in set(_imported(tree))]


def test_no_package_is_crowded(checkout: Path) -> None:
    core = checkout / "dfq_deploy"
    assert len(list(core.glob("*.py"))) <= MAXIMUM_AT_TOP
    for package in {file.parent for file in core.rglob("*.py")} - {core}:
        files = [file for file in package.glob("*.py") if file.name != "__init__.py"]
        split = any(child.is_dir() and (child / "__init__.py").exists() for child in package.iterdir())
        name = package.relative_to(core).as_posix()
        assert name in FLAT or split or len(files) <= MAXIMUM_IN_PACKAGE, name


def test_tables_of_contents_list_each_module_with_its_first_line(checkout: Path) -> None:
    core = checkout / "dfq_deploy"
    for init in [*core.rglob("*/__init__.py"), *(checkout / name / "__init__.py" for name in PLUGIN_FOLDERS)]:
        package, text = init.parent, ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        if package == core / "twin/ops":
            continue
        listed = dict(re.findall(r"^``(\w+)`` +(.+)$", text, re.MULTILINE))
        for file in package.glob("[!_]*.py"):
            first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()[0]
            assert listed.pop(file.stem, None) == first, f"{init.relative_to(checkout)}: {file.stem}"
        for child in package.glob("*/__init__.py"):
            assert listed.pop(child.parent.name, None), f"{init.relative_to(checkout)}: {child.parent.name}"
        assert not listed, f"{init.relative_to(checkout)} lists what is not there: {', '.join(listed)}"


def test_the_top_docstring_lists_each_package(checkout: Path) -> None:
    core = checkout / "dfq_deploy"
    text = ast.get_docstring(ast.parse((core / "__init__.py").read_text(encoding="utf-8"))) or ""
    listed = re.findall(r"^``(\w+)`` +.+$", text, re.MULTILINE)
    assert sorted(listed) == sorted([*PLUGIN_FOLDERS, *(init.parent.name for init in core.glob("*/__init__.py"))])
