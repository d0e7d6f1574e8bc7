"""`dfq-deploy synthesize` keeps the generator beside the samples, and draws from it again."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dfq_deploy.cli.main import main
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.generators import method as generators


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["synthesize", *arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ("--iterations", "4", "--samples", "6", "--option", "channels=8", "--option", "batch=8")


@pytest.mark.parametrize("method", ["gdfq", "qimera", "adversarial", "dfqf"])
def test_the_generator_is_written_and_drawn_from_again(here: Path, digits_bn: Path, method: str) -> None:
    made = run(str(digits_bn), "--method", method, *QUICK, "-o", "a.npz", "--json", "-q")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["files"] == ["a.npz", "a.png", "a.pt"]
    drawn = run(str(digits_bn), "--method", method, "--option", "generator=a.pt", "--samples", "6", "-o", "b.npz", "-q")
    assert drawn.exit_code == 0, drawn.output
    assert not (here / "b.pt").exists()
    first, again = (Samples.load(here / name).images for name in ("a.npz", "b.npz"))
    np.testing.assert_allclose(first, again, atol=1e-5)


def test_a_place_of_ones_own(here: Path, digits_bn: Path) -> None:
    result = run(str(digits_bn), "--method", "gdfq", *QUICK, "-o", "a.npz", "--option", "save=mine.pt")
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.stdout.splitlines()[-3:]] == [
        ["wrote", file] for file in ("a.npz", "a.png", "mine.pt")
    ]
    assert (here / "mine.pt").is_file()
    assert not (here / "a.pt").exists()


def test_a_generator_of_another_method_is_refused_in_one_line(here: Path, digits_bn: Path) -> None:
    run(str(digits_bn), "--method", "gdfq", *QUICK, "-o", "a.npz")
    result = run(str(digits_bn), "--method", "qimera", "--option", "generator=a.pt", "-o", "b.npz", "-q")
    assert result.exit_code == 1
    assert "a.pt: a generator of gdfq, not of qimera; use gdfq" in result.stderr
    assert not (here / "b.npz").exists()


def test_methods_without_a_generator_write_none(here: Path, digits_bn: Path) -> None:
    result = run(str(digits_bn), "--method", "noise", "--samples", "2", "-o", "a.npz", "--json", "-q")
    assert json.loads(result.stdout)["files"] == ["a.npz", "a.png"]


def test_where_procedural_samples_step_in_no_generator_is_claimed(here: Path, digits_folded: Path) -> None:
    result = run(str(digits_folded), "--method", "gdfq", *QUICK, "-o", "a.npz", "--json", "-q")
    assert json.loads(result.stdout)["files"] == ["a.npz", "a.png"]


def test_the_generator_is_replaced_with_the_samples_alone(
    here: Path, digits_bn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends while samples are drawn leaves the earlier files; resumed, it gives the bytes of a whole one."""
    command = (str(digits_bn), "--method", "gdfq", *QUICK, "-q")
    for name, seed in (("whole.npz", "1"), ("a.npz", "0")):
        assert run(*command, "-o", name, "--seed", seed).exit_code == 0
    ends = (".npz", ".png", ".pt")
    before = [(here / f"a{end}").read_bytes() for end in ends]

    def interrupting(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generators, "draw_samples", interrupting)
        assert run(*command, "-o", "a.npz", "--seed", "1").exit_code == 1
    assert [(here / f"a{end}").read_bytes() for end in ends] == before
    assert (here / "a.npz.unfinished/generator.pt").is_file()
    assert run(*command, "-o", "a.npz", "--seed", "1", "--resume").exit_code == 0
    assert [(here / f"a{end}").read_bytes() for end in ends] == [(here / f"whole{end}").read_bytes() for end in ends]
    assert len(list(here.iterdir())) == 6


def test_a_result_without_a_generator_leaves_none_beside_it(here: Path, digits_bn: Path, digits_folded: Path) -> None:
    assert run(str(digits_bn), "--method", "gdfq", *QUICK, "-o", "a.npz", "-q").exit_code == 0
    assert (here / "a.pt").is_file()
    assert run(str(digits_folded), "--method", "gdfq", *QUICK, "-o", "a.npz", "-q").exit_code == 0
    assert sorted(file.name for file in here.iterdir()) == ["a.npz", "a.png"]
