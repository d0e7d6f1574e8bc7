"""Findings and verdicts."""

from dfq_deploy.verdict.finding import Finding, Verdict, worst


def test_the_worst_finding_decides() -> None:
    good, doubtful = Finding("a", "OK", "fine"), Finding("b", "CHECK", "hm", "look")
    bad = Finding("c", "BAD", "no", figures={"agreement": 9.0})
    assert worst([]) == "OK"
    assert worst([good]) == "OK"
    assert worst([good, doubtful]) == "CHECK"
    assert worst([bad, doubtful, good]) == "BAD"


def test_a_verdict_is_one_line_and_plain_json() -> None:
    finding = Finding("c", "BAD", "9 % agree", "give other samples", {"agreement": 9.0})
    verdict = Verdict("BAD", "9 % agree", "dfq-deploy calibrate m.onnx --synth procedural", (finding,))
    assert str(verdict) == "BAD: 9 % agree; next: dfq-deploy calibrate m.onnx --synth procedural"
    assert str(Verdict("OK", "99 % agree")) == "OK: 99 % agree"
    assert verdict.to_json() == {
        "status": "BAD",
        "reason": "9 % agree",
        "command": "dfq-deploy calibrate m.onnx --synth procedural",
        "findings": [
            {
                "code": "c",
                "level": "BAD",
                "message": "9 % agree",
                "remedy": "give other samples",
                "figures": {"agreement": 9.0},
            }
        ],
    }
