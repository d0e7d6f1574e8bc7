"""Print the software bill of materials, all that dfq-deploy needs, as CycloneDX 1.6 or as a table of licences.

usage: python -m benchmarks.sbom [--extra NAME...] [--licences] > sbom.json

It lists what is installed here: the requirements of the package, those of the extras that are named, and what they
require in turn, each with version, licence, package URL and requirements. The same installation gives the same bytes.
"""

import argparse
import json
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["bill", "closure", "licence_of"]

PACKAGE = "dfq-deploy"

NAMES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Other/Proprietary License": "LicenseRef-Proprietary",
    "Public Domain": "LicenseRef-Public-Domain",
}
"""What older packages write, as SPDX has it."""

LONGEST = 60
"""Characters of a licence field that is a name, not the text itself."""


def licence_of(package: Distribution) -> str:
    """The licence of a package as an SPDX expression, or as the package words it; empty where it says nothing."""
    fields = package.metadata
    for expression in fields.get_all("License-Expression") or ():
        return str(expression)
    classifiers = [str(line) for line in fields.get_all("Classifier") or ()]
    named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    free = str((fields.get_all("License") or [""])[0])
    if free and len(free) <= LONGEST and "\n" not in free:
        return NAMES.get(free, free)
    return " OR ".join(NAMES.get(name, name) for name in named)


def _required(package: Distribution, extras: Iterable[str]) -> Iterator[tuple[str, set[str]]]:
    """Names of what a package requires here, each with the extras that it is required with."""
    for line in package.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), requirement.extras


def closure(name: str, extras: Iterable[str] = ()) -> dict[str, tuple[Distribution, tuple[str, ...]]]:
    """All packages that ``name`` needs, itself included: name -> package and the names of what it requires.

    A requirement that is not installed is left out.
    """
    found: dict[str, tuple[Distribution, tuple[str, ...]]] = {}
    waiting: list[tuple[str, set[str]]] = [(canonicalize_name(name), set(extras))]
    while waiting:
        current, wanted = waiting.pop()
        if current in found and not wanted:
            continue
        try:
            package = distribution(current)
        except PackageNotFoundError:
            continue
        required = dict(_required(package, wanted))
        known = set(found[current][1]) if current in found else set()
        found[current] = (package, tuple(sorted(known | set(required))))
        waiting += [(other, more) for other, more in required.items() if other not in found or more]
    return dict(sorted(found.items()))


def bill(packages: Mapping[str, tuple[Distribution, tuple[str, ...]]]) -> dict[str, Any]:
    """The bill of materials as CycloneDX's JSON."""
    references = {name: f"pkg:pypi/{name}@{package.version}" for name, (package, _) in packages.items()}
    components = [
        {
            "type": "library",
            "bom-ref": references[name],
            "name": name,
            "version": package.version,
            "purl": references[name],
            "licenses": [_licence(licence_of(package))],
        }
        for name, (package, _) in packages.items()
    ]
    own = canonicalize_name(PACKAGE)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(references.values()))}",
        "version": 1,
        "metadata": {"component": next(one for one in components if one["name"] == own) | {"type": "application"}},
        "components": [one for one in components if one["name"] != own],
        "dependencies": [
            {"ref": references[name], "dependsOn": [references[other] for other in required if other in references]}
            for name, (_, required) in packages.items()
        ],
    }


def _licence(words: str) -> dict[str, Any]:
    if not words:
        return {"license": {"name": "not stated"}}
    return {"license": {"name": words}} if words.startswith("LicenseRef-") else {"expression": words}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--licences", action="store_true", help="print a Markdown table instead")
    options = parser.parse_args()
    packages = closure(PACKAGE, options.extra)
    if options.licences:
        print("| package | version | licence |\n|---|---|---|")
        for name, (package, _) in packages.items():
            print(f"| {name} | {package.version} | {licence_of(package) or 'not stated'} |")
    else:
        json.dump(bill(packages), sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
