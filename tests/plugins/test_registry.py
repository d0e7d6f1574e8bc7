"""Methods found through entry points, their own and other people's."""

import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from dfq_deploy.calibrators.minmax import MinMax

from dfq_deploy import synthesize
from dfq_deploy.errors import PluginError
from dfq_deploy.plugins import registry
from dfq_deploy.plugins.registry import KINDS, Plugin, calibrator_of, find_plugin, installed_plugins, synthesizer_of
from dfq_deploy.synthesis.methods.lowpass import low_passed

Install = Callable[..., None]


class Good:
    """A calibrator as a third party would offer it."""

    summary = "ranges by dowsing"


class Nameless:
    """One that forgot its summary."""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Pretend that only these calibrators, pairs of name and value, are installed."""
    module = ModuleType("third_party")
    vars(module).update(Good=Good, Nameless=Nameless)
    monkeypatch.setitem(sys.modules, "third_party", module)

    def pretend(*calibrators: tuple[str, str]) -> None:
        def entry_points(group: str) -> list[EntryPoint]:
            return [EntryPoint(name, value, group) for name, value in calibrators if group.endswith("calibrators")]

        monkeypatch.setattr(registry, "entry_points", entry_points)

    return pretend


def test_a_third_party_method_is_found(install: Install) -> None:
    install(("dowsing", "third_party:Good"))
    assert find_plugin("calibrators", "dowsing") is Good
    assert installed_plugins() == [Plugin("calibrators", "dowsing", "ranges by dowsing", "")]


def test_unknown_method_lists_what_there_is(install: Install) -> None:
    install(("wand", "third_party:Good"), ("dowsing", "third_party:Good"))
    with pytest.raises(PluginError, match=r"^no calibrator 'stick'; installed: dowsing, wand$"):
        find_plugin("calibrators", "stick")
    with pytest.raises(PluginError, match=r"^no exporter 'stick'; installed: none$"):
        find_plugin("exporters", "stick")


def test_what_does_not_load_is_reported_and_does_not_hide_the_rest(install: Install) -> None:
    install(("absent", "no_such_package:Thing"), ("dowsing", "third_party:Good"), ("typo", "third_party:Godo"))
    absent, dowsing, typo = installed_plugins()
    assert absent.problem == (
        "the calibrator 'absent' (no_such_package:Thing) does not load: No module named 'no_such_package'"
    )
    assert dowsing == Plugin("calibrators", "dowsing", "ranges by dowsing", "")
    assert "the calibrator 'typo' (third_party:Godo) does not load" in typo.problem
    with pytest.raises(PluginError, match="No module named 'no_such_package'"):
        find_plugin("calibrators", "absent")


def test_a_package_that_breaks_in_its_own_way_is_reported_too(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text("raise OSError('libdowsing.so: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    install(("broken", "broken_plugin:Thing"))
    (broken,) = installed_plugins()
    assert broken.problem == (
        "the calibrator 'broken' (broken_plugin:Thing) does not load: libdowsing.so: cannot open shared object file"
    )


def test_a_method_without_summary_is_listed(install: Install) -> None:
    install(("shy", "third_party:Nameless"))
    assert installed_plugins() == [Plugin("calibrators", "shy", "", "")]


def test_two_packages_with_one_name(install: Install) -> None:
    install(("dowsing", "third_party:Good"), ("dowsing", "other_party:Good"))
    with pytest.raises(
        PluginError,
        match=r"^two installed packages offer the calibrator 'dowsing': third_party:Good and other_party:Good; uninst",
    ):
        find_plugin("calibrators", "dowsing")


def test_one_package_listed_twice_is_no_conflict(install: Install) -> None:
    install(("dowsing", "third_party:Good"), ("dowsing", "third_party:Good"))
    assert find_plugin("calibrators", "dowsing") is Good


def test_our_own_methods_are_those_of_pyproject_and_load(checkout: Path) -> None:
    declared = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["entry-points"]
    ours = {(kind, name, value) for kind in KINDS for name, value in declared.get(f"dfq_deploy.{kind}", {}).items()}
    assert set(declared) <= {f"dfq_deploy.{kind}" for kind in KINDS}
    found = {(plugin.kind, plugin.name): plugin for plugin in installed_plugins()}
    for kind, name, value in ours:
        assert found[kind, name].problem == "", value
        assert found[kind, name].summary
        module, _, attribute = value.partition(":")
        method = find_plugin(kind, name)
        assert (method.__module__, method.__name__) == (module, attribute)


def test_the_example_of_a_third_party_method_works(
    checkout: Path, digits_bn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkout / "examples/plugin"
    declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
    ((group, methods),) = declared.items()
    ((name, value),) = methods.items()
    assert len((folder / "stripes.py").read_text().splitlines()) < 40
    monkeypatch.syspath_prepend(folder)
    found = [EntryPoint(name, value, group)]
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry for entry in found if entry.group == group])
    assert installed_plugins() == [
        Plugin("synthesizers", "stripes", "plane waves, as an example of a third-party method", "")
    ]
    made = synthesize(digits_bn, synth="stripes", count=3)
    assert (made.method, made.images.shape) == ("stripes", (3, 1, 16, 16))
    assert 0.9 < np.abs(made.images).max() <= 1
    np.testing.assert_array_equal(made.images, synthesize(digits_bn, synth="stripes", count=3).images)


def test_what_only_looks_like_a_plugin_is_refused(install: Install) -> None:
    install(("dowsing", "third_party:Good"))
    words = (
        "Good is not a valid calibrator: give a name, or an instance of a class that subclasses "
        "dfq_deploy.plugins.contracts"
    )
    with pytest.raises(PluginError, match=words):
        calibrator_of("dowsing")
    with pytest.raises(PluginError, match="class MinMax is not a valid calibrator"):
        calibrator_of(MinMax)
    made = MinMax()
    assert calibrator_of(made) is made


def test_a_method_that_declares_little_has_the_defaults_of_the_contract() -> None:
    noise = synthesizer_of("noise")
    assert (noise.name, noise.schedule, noise.iterations, noise.needs_twin) == ("noise", "short", None, False)
    psaq = low_passed(synthesizer_of("psaq"), 40.0)
    assert (psaq.name, psaq.schedule, psaq.needs_statistics, psaq.needs_twin) == ("psaq", "auto", False, True)
