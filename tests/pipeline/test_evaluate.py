"""``dfq_deploy.evaluate``: the verdict on real files, good and bad."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import dfq_deploy
from dfq_deploy import Gates, Samples, calibrate, evaluate
from dfq_deploy.errors import ModelError, OptionError, TargetError
from dfq_deploy.samples.pictures.originals import Original, Originals
from dfq_deploy.verdict.finding import Verdict
from examples.digits import data
from tests.conftest import TinyModel


def _codes(verdict: Verdict) -> dict[str, str]:
    return {finding.code: finding.level for finding in verdict.findings}


def planted(path: Path, output: Path, factor: float) -> Path:
    """The file with the scale of its first weight ``factor`` times as large, and integers that fit it."""
    model = onnx.load(path)
    arrays = {initializer.name: initializer for initializer in model.graph.initializer}
    node = next(
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and len(arrays[node.input[0]].dims) == 4
        if node.input[0] in arrays
    )
    for name, change in ((node.input[1], factor), (node.input[0], 1 / factor)):
        old = numpy_helper.to_array(arrays[name])
        new = np.round(old * change) if old.dtype == np.int8 else old * change
        arrays[name].CopyFrom(numpy_helper.from_array(new.astype(old.dtype), name))
    onnx.save(model, output)
    return output


def test_a_good_file_on_real_data(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    found = evaluate(digits_bn, digits_int8, held_out)
    assert found.verdict.status == "OK"
    assert found.verdict.reason.startswith("top-1 falls by ")
    assert _codes(found.verdict) == dict.fromkeys(["top1-drop", "agreement", "labels", "layers-in-int8"], "OK")
    assert [kind.kind for kind in found.agreement.kinds] == ["data"]
    document = found.to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["verdict"]["status"] == "OK"
    assert document["held_out"]["predicted"]["kind"] == "data"
    assert document["agreement"] == pytest.approx(100, abs=1)


def test_without_data_agreement_is_predicted(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    found = evaluate(digits_bn, digits_int8, preprocess=data.PREPROCESS)
    assert found.verdict.status == "OK"
    assert found.verdict.reason.startswith("predicted agreement with float on real inputs: ")
    assert [(kind.kind, kind.comparison.count) for kind in found.agreement.kinds] == [
        ("procedural", 256), ("photographs", 256),
    ]  # fmt: skip
    real = evaluate(digits_bn, digits_int8, held_out).comparison.scores
    assert found.agreement.predicted is not None
    assert real is not None
    assert found.agreement.predicted.value == pytest.approx(real.agreement, abs=2)


def test_few_real_samples_are_helped_by_others(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    found = evaluate(digits_bn, digits_int8, held_out.part(slice(16)), preprocess=data.PREPROCESS)
    assert [kind.kind for kind in found.agreement.kinds] == ["data", "procedural", "photographs"]
    assert found.agreement.predicted is not None
    assert found.agreement.predicted.kind == "photographs"
    assert _codes(found.verdict)["agreement-few"] == "OK"


def test_samples_that_were_synthesized_do_not_judge(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    made = Samples(held_out.images[:64], method="deepinversion")
    found = evaluate(digits_bn, digits_int8, made, preprocess=data.PREPROCESS)
    assert [(kind.kind, kind.calibrated) for kind in found.agreement.kinds] == [
        ("deepinversion", True), ("procedural", False), ("photographs", False),
    ]  # fmt: skip
    assert found.agreement.predicted is not None
    assert found.agreement.predicted.kind == "photographs"


def test_a_ruined_file_is_bad(digits_bn: Path, held_out: Samples, tmp_path: Path) -> None:
    noise = Samples(np.zeros((8, 1, 16, 16), np.float32))
    calibrate(digits_bn, data=noise, method="minmax", refine=(), floor="none", output=tmp_path / "int8")
    ruined = tmp_path / "int8/model.qdq.onnx"
    for samples in (held_out, None):
        found = evaluate(digits_bn, ruined, samples, preprocess=data.PREPROCESS)
        assert found.verdict.status == "BAD"
        assert found.verdict.findings[0].code == "scale-fault"
        assert found.verdict.command == f"dfq-deploy calibrate {digits_bn} --mean 0.305 --std 0.319"


@pytest.mark.parametrize("gates", [None, Gates(min_agreement=1)])
def test_a_planted_fault_is_the_reason(
    digits_bn: Path, digits_int8: Path, held_out: Samples, tmp_path: Path, gates: Gates | None
) -> None:
    wrong = planted(digits_int8, tmp_path / "wrong.onnx", 8)
    verdict = evaluate(digits_bn, wrong, held_out.part(slice(100)), gates=gates).verdict
    assert verdict.status == "BAD"
    assert verdict.findings[0].code == "scale-fault"
    assert "is about 8 times too large" in verdict.reason


def test_gates_on_real_figures(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    met = evaluate(digits_bn, digits_int8, held_out, gates=Gates(min_agreement=99, max_drop=1, min_snr=20))
    assert met.verdict.status == "OK"
    snr = met.comparison.outputs[0].snr
    missed = evaluate(digits_bn, digits_int8, held_out, gates=Gates(min_snr=snr + 1))
    assert missed.verdict.status == "BAD"
    assert missed.verdict.reason == (
        f"--min-snr missed: output 'scores' has {snr:.1f} dB of signal to noise, at least {snr + 1:g} is asked for"
    )


def test_the_metric_s_drop_is_bounded_without_labels(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    def spread(outputs: dict[str, np.ndarray], labels: object) -> float:
        assert labels is None
        return float(outputs["scores"].std())

    plain = Samples(held_out.images[:64])
    found = evaluate(digits_bn, digits_int8, plain, metric=spread, gates=Gates(max_drop=-100))
    assert found.metric is not None
    assert found.verdict.status == "BAD"
    assert found.verdict.reason.startswith("--max-drop missed: spread falls by ")


def test_gates_that_need_labels_are_refused_before_anything_runs(
    digits_bn: Path, held_out: Samples, tmp_path: Path
) -> None:
    missing = tmp_path / "none.onnx"  # which would be missed next
    for samples in (None, Samples(held_out.images)):
        with pytest.raises(OptionError, match="--max-drop bounds the loss of top-1, which needs labels"):
            evaluate(digits_bn, missing, samples, gates=Gates(max_drop=1))


def test_a_file_for_another_runtime(digits_bn: Path, held_out: Samples, tmp_path: Path) -> None:
    real = held_out.part(slice(64))
    calibrate(digits_bn, data=Samples(real.images), target="tensorrt", refine=(), output=tmp_path / "int8")
    file = tmp_path / "int8/model.qdq.onnx"
    unknown = evaluate(digits_bn, file, held_out).verdict
    assert unknown.status == "CHECK"
    assert "though the file has Q and DQ: another runtime may run it in INT8" in unknown.reason
    known = evaluate(digits_bn, file, held_out, target="tensorrt")
    assert known.verdict.status == "OK"
    with pytest.raises(TargetError):
        evaluate(digits_bn, file, held_out, target="abacus")


def test_the_float_file_itself_is_bad(tiny: TinyModel, tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "net.onnx")
    verdict = evaluate(tmp_path / "net.onnx", tmp_path / "net.onnx", count=16).verdict
    assert verdict.status == "BAD"
    assert verdict.reason.startswith("nothing runs in INT8: all 2 layers are float")


def test_speed_is_judged_with_latency_alone(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    part = held_out.part(slice(64))
    speed = {"slower-than-float", "as-fast-as-float", "faster-than-float"}
    assert not speed & set(_codes(evaluate(digits_bn, digits_int8, part).verdict))
    assert len(speed & set(_codes(evaluate(digits_bn, digits_int8, part, latency=True).verdict))) == 1


def test_inputs_that_cannot_be_drawn_leave_the_figures(
    digits_bn: Path, digits_int8: Path, held_out: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ModelError("input 'image' is of no known kind")

    monkeypatch.setattr("dfq_deploy.pipeline.evaluate.held_out_sets", refuse)
    found = evaluate(digits_bn, digits_int8, held_out.part(slice(16)))
    assert [kind.kind for kind in found.agreement.kinds] == ["data"]
    (note,) = (finding for finding in found.verdict.findings if finding.code == "held-out")
    assert note.message == "no inputs of other kinds were tried: input 'image' is of no known kind"


def test_the_public_name_is_the_judging_one() -> None:
    assert dfq_deploy.evaluate.__module__ == "dfq_deploy.pipeline.evaluate"


def test_pictures_of_few_bits_are_said_first(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    seen = Originals.of([Original((16, 16), 4000)] * len(held_out), (16, 16))
    found = evaluate(digits_bn, digits_int8, replace(held_out, originals=seen), preprocess=data.PREPROCESS)
    assert "hold no value above 4000, as sensors of 12 bits give" in found.warnings[0]
    assert "; scale them to the full range (value / 4095 * 65535), or give an .npz of uint8" in found.warnings[0]
    assert [finding.code for finding in found.verdict.findings if finding.level != "OK"] == ["samples-bits"]


def test_labels_of_an_array_that_are_off_by_one(
    digits_bn: Path, digits_int8: Path, held_out: Samples, tmp_path: Path
) -> None:
    assert held_out.labels is not None
    kept = np.flatnonzero(held_out.labels < 9)[:100]
    np.savez(tmp_path / "set.npz", images=held_out.images[kept], labels=held_out.labels[kept] + 1)
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(10))))
    found = evaluate(digits_bn, digits_int8, tmp_path / "set.npz", labels=tmp_path / "names.txt")
    assert found.verdict.status == "CHECK"
    assert found.verdict.reason.startswith("the labels are off by one: float gives the class of the label to ")
    assert found.verdict.reason.endswith("; subtract 1 from each label")
    assert found.verdict.command == ""
    assert any("numbers, which it leaves as they are" in warning for warning in found.warnings)


def test_a_doubled_bias_is_the_reason(digits_bn: Path, digits_int8: Path, held_out: Samples, tmp_path: Path) -> None:
    model = onnx.load(digits_int8)
    bias = next(tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT32)
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * 2, bias.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    found = evaluate(digits_bn, tmp_path / "wrong.onnx", held_out.part(slice(100)), preprocess=data.PREPROCESS)
    assert found.verdict.findings[0].code == "bias-fault"
    assert found.verdict.reason.startswith(f"the bias '{bias.name}' of Conv ")
    assert found.verdict.command == f"dfq-deploy calibrate {digits_bn} --mean 0.305 --std 0.319"
    assert found.to_json()["faults"][0]["tensor"] == bias.name


def test_files_that_were_swapped(digits_bn: Path, digits_int8: Path, held_out: Samples) -> None:
    for samples in (held_out.part(slice(64)), None):
        found = evaluate(digits_int8, digits_bn, samples, preprocess=data.PREPROCESS)
        assert (found.verdict.status, found.verdict.findings[0].code) == ("BAD", "files-swapped")
        assert found.verdict.command == f"dfq-deploy evaluate {digits_bn} {digits_int8}"
