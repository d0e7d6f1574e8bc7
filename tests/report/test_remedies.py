"""The report's section on remedies: every step with its gain, its cost and what came of it."""

from typing import Any

from dfq_deploy.pipeline.remedies.steps import Remedies, RemedyStep
from dfq_deploy.report.remedies import remedies_section

KEPT = RemedyStep("channels", "--refine channels", 11.0, 18.5, True, "", 0.97, 1_200_000, 4.25)
DROPPED = RemedyStep("samples", "16 <b> inputs", 18.5, 18.6, False, "it gains nothing", None, -500_000, 3.0)
FAILED = RemedyStep("reconstruct", "--refine reconstruct", 18.5, None, False, "it failed: no memory", None, None, 1.0)


def report(*steps: RemedyStep, reached: bool = False, stopped: str = "max-time") -> dict[str, Any]:
    said = "the time for remedies is up (60 s; --max-time)"
    found = Remedies("ok", "dB", 11.0, 18.5, reached, stopped, said, 60.0, 1.15, 58.2, steps)
    return {"remedies": found.to_json()}


def test_gain_cost_and_outcome_of_every_step_are_shown() -> None:
    section = remedies_section(report(KEPT, DROPPED, FAILED))
    for shown in ("11.0 dB", "18.5 dB", "+7.5", "0.97\N{MULTIPLICATION SIGN}", "+1.20 MB", "4.2 s", ">kept<"):
        assert shown in section
    for shown in ("dropped: it gains nothing", "-0.50 MB", "16 &lt;b&gt; inputs", "dropped: it failed: no memory"):
        assert shown in section


def test_it_says_where_the_search_ended() -> None:
    section = remedies_section(report(KEPT))
    assert "the time for remedies is up (60 s; --max-time); 58 s of at most 60 s" in section
    assert "<td>first result</td>" in section
    assert "<td>first result</td>" not in remedies_section(report(stopped="unmeasured"))


def test_without_a_search_there_is_no_section() -> None:
    assert remedies_section({}) == ""
    assert remedies_section(report(reached=True, stopped="floor")) == ""
