"""Sphinx configuration. ``make docs`` builds the site: the README, these pages, and a reference of every module."""

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import dfq_deploy

DOCS = Path(__file__).parent
CHECKOUT = DOCS.parent
REFERENCE = DOCS / "reference"
REPOSITORY = "https://github.com/dfq-deploy/dfq-deploy"

PLUGIN_FOLDERS = ("dfq_deploy.calibrators", "dfq_deploy.exporters")
"""Installed below ``dfq_deploy`` from folders of their own, so its path does not list them."""

PUBLIC = {name: getattr(dfq_deploy, name) for name in dfq_deploy.__all__ if name != "__version__"}

MODULE_OF = dfq_deploy._MODULE_OF

project = "dfq-deploy"
project_copyright = "the dfq-deploy authors"
version = release = dfq_deploy.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"dfq-deploy {release}"
html_theme_options = {"source_repository": REPOSITORY, "source_branch": "main", "source_directory": "docs/"}
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
nitpick_ignore_regex = [
    # A docstring that is inherited from click.
    (r"py:meth", r"fail"),
    # Annotations name types of torch, NumPy and ONNX, whose references are not loaded.
    (r"py:(class|obj|data|exc)", r"(?!dfq_deploy\.).*"),
    # Type variables.
    (r"py:class", r"dfq_deploy\..*\.(_\w+|Decorated|Group|Item|Made|Plugin|Result)"),
]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", read_page)
    app.connect("env-get-outdated", lambda *_: ["index"])  # Sphinx does not see that it holds the README
    app.connect("autodoc-skip-member", skip_public)
    app.connect("autodoc-process-docstring", point_to_public)
    app.connect("missing-reference", find_public)


def packages() -> list[str]:
    """Every package, sub-packages behind the package that holds them."""
    walked = pkgutil.walk_packages(dfq_deploy.__path__, "dfq_deploy.")
    return [*(found.name for found in walked if found.ispkg), *PLUGIN_FOLDERS]


def write_reference(app: Sphinx) -> None:
    """Write one page of the reference for each package, and one for the modules beside them."""
    REFERENCE.mkdir(exist_ok=True)
    tops = [found.name for found in pkgutil.iter_modules(dfq_deploy.__path__, "dfq_deploy.") if not found.ispkg]
    tops.remove("dfq_deploy.__main__")
    pages = {"modules": ["modules at the top", *map(_automodule, tops)]}
    for package in packages():
        found = pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
        modules = [module.name for module in found if not module.ispkg and package != "dfq_deploy.twin.ops"]
        pages[package] = [
            package.removeprefix("dfq_deploy."),
            f".. automodule:: {package}\n   :no-members:",
            *map(_automodule, modules),
        ]
    pages = {"public": ["Public names", *public_names()], **pages}
    listed = "".join(f"   {name}\n" for name in pages)
    pages["index"] = ["Reference of all modules", f".. toctree::\n   :maxdepth: 1\n\n{listed}"]
    for stale in set(REFERENCE.glob("*.rst")) - {REFERENCE / f"{name}.rst" for name in pages}:
        stale.unlink()
    for name, (title, *parts) in pages.items():
        text = "\n\n".join([f"{title}\n{'=' * len(title)}", *parts]) + "\n"
        page = REFERENCE / f"{name}.rst"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def public_names() -> Iterator[str]:
    """The directives for the names of ``__init__.pyi``, below its comments."""
    for line in Path(dfq_deploy.__file__).with_suffix(".pyi").read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "noqa" not in line:
            title = line[2:].capitalize()
            yield f"{title}\n{'-' * len(title)}"
        for name in re.findall(r" as (\w+)", line):
            yield _documented(name)


def _documented(name: str) -> str:
    item = PUBLIC[name]
    if isinstance(item, type):
        return f".. auto{'exception' if issubclass(item, Exception) else 'class'}:: dfq_deploy.{name}"
    if callable(item):
        return f".. autofunction:: dfq_deploy.{name}"
    return f".. py:data:: dfq_deploy.{name}\n\n   See :py:mod:`{MODULE_OF[name]}`."


def _automodule(name: str) -> str:
    title = name.rpartition(".")[2]
    return f"{title}\n{'-' * len(title)}\n\n.. automodule:: {name}"


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the README on the front page, and let links that leave ``docs/`` lead to the repository."""
    if name == "index":
        readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
        contents = source[0].replace("{pages}", "\n".join(_unlisted(source[0])))
        source[0] = re.sub(r"(?<=\]\()docs/", "", readme) + contents
        folder = CHECKOUT
    else:
        folder = (DOCS / name).parent
    # The full name of a class leads to its place in the reference.
    source[0] = re.sub(r"(?<![`}])`(dfq_deploy\.(?:\w+\.)*[A-Z]\w*[a-z]\w*)`", r"{py:obj}`\1`", source[0])
    source[0] = re.sub(r"(?<=\]\()(?!https?:|#)([^)\s#]+)", lambda link: _outside(link[1], folder), source[0])


def _unlisted(contents: str) -> list[str]:
    """Pages that the front page does not list by name."""
    listed = {"index", *contents.split()}
    return sorted(page.stem for page in DOCS.glob("*.md") if page.stem not in listed)


def _outside(link: str, folder: Path) -> str:
    path = (folder / link).resolve()
    if path.is_relative_to(DOCS) or not path.is_relative_to(CHECKOUT) or not path.exists():
        return link
    return f"{REPOSITORY}/blob/main/{path.relative_to(CHECKOUT).as_posix()}"


def skip_public(app: Sphinx, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Leave public names out of their module's page: they have a page of their own."""
    public = any(item is known for known in PUBLIC.values())
    return True if what == "module" and public else None


def point_to_public(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Say on a module's page which public names it defines."""
    if what == "module":
        names = [public for public in PUBLIC if MODULE_OF[public] == name]
        if names:
            lines += ["", "Public: " + ", ".join(f":py:obj:`dfq_deploy.{public}`" for public in names) + "."]


def find_public(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement) -> Any:
    """Resolve a public name that a docstring gives bare, or with the module that defines it."""
    module, _, name = node["reftarget"].rpartition(".")
    if node.get("refdomain") != "py" or name not in MODULE_OF or module not in ("", MODULE_OF[name]):
        return None
    python = env.domains.python_domain
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", f"dfq_deploy.{name}", node, shown)
