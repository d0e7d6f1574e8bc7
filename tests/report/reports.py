"""Reports that the tests of the page share."""

from typing import Any

from dfq_deploy.pipeline.remedies.steps import Remedies, RemedyStep

KEPT = RemedyStep("channels", "--refine channels", 11.0, 18.5, True, "", 0.97, 1_200_000, 4.25)
DROPPED = RemedyStep("samples", "16 <b> inputs", 18.5, 18.6, False, "it gains nothing", None, -500_000, 3.0)
FAILED = RemedyStep("reconstruct", "--refine reconstruct", 18.5, None, False, "it failed: no memory", None, None, 1.0)

HOSTILE = '<script>alert("x")</script>'


def remedies(*steps: RemedyStep, reached: bool = False, stopped: str = "max-time") -> dict[str, Any]:
    said = "the time for remedies is up (60 s; --max-time)"
    return Remedies("ok", "dB", 11.0, 18.5, reached, stopped, said, 60.0, 1.15, 58.2, steps).to_json()


def layer(position: int, name: str = "", *, own: float | None = 30.0, explained: bool = False) -> dict[str, Any]:
    """One entry of ``noise.layers``."""
    entry: dict[str, Any] = {
        "node": name or f"conv_{position}", "operator": "Conv", "weight": "w", "activations": ["x"], "own_snr_db": own,
        "share": 0.25, "accumulated_snr_db": 22.0, "measured": True, "position": position,
    }  # fmt: skip
    if explained:
        cause = {
            "tensor": "x",
            "kind": "clipping",
            "sentence": "'x' is clipped",
            "part": 0.9,
            "remedy": "--method minmax",
        }
        drawn = {
            "tensor": "x", "type": "u8", "unit": "value", "low": -1.0, "high": 3.0, "counts": [1, 5, 3, 2],
            "clip_low": 0.0, "clip_high": 2.55, "step": 0.01, "outside": 0.25,
        }  # fmt: skip
        entry |= {"causes": [cause], "histogram": drawn}
    return entry


def full(**further: Any) -> dict[str, Any]:
    """A report with every section."""
    return {
        "version": "1.2",
        "model": {"name": "<net>.onnx", "file_bytes": 2_000_000, "bytes_by_type": {"float32": 1_900_000}},
        "quantized": {"name": "model.qdq.onnx", "file_bytes": 500_000, "bytes_by_type": {"int8": 475_000}},
        "target": {"name": "cpu", "runtime": "ONNX Runtime"},
        "samples": {
            "method": "noise", "count": 65, "held_out": 8, "seed": 5, "preprocess": {"mean": [0.5], "std": [0.25]},
            "figures": {"statistics_distance": 0.25},
        },
        "calibration": {"method": "mse", "bits": "w8a8", "refine": ["bias"]},
        "comparison": {"samples": 8, "agreement": 98.44, "kl_nats": 0.01, "outputs": [{"name": "y", "snr_db": 31.25}]},
        "agreement": {
            "predicted": {"value": 99.2, "low": 97.5, "high": 99.8, "kind": "photographs"},
            "kinds": [
                {"kind": "noise", "calibrated": True, "samples": 8, "kl_nats": 0.1,
                 "agreement": {"value": 100.0, "low": 63.1, "high": 100.0, "count": 8},
                 "worst_output": {"name": "y", "snr_db": 31.25}},
                {"kind": "photographs", "calibrated": False, "samples": 64, "kl_nats": None, "agreement": None,
                 "worst_output": {"name": "y", "snr_db": None}},
            ],
        },
        "verdict": {
            "status": "CHECK", "reason": "outputs differ", "command": "dfq-deploy evaluate net.onnx model.qdq.onnx",
            "findings": [
                {"code": "output-noise", "level": "CHECK", "message": "outputs differ",
                 "remedy": "--refine reconstruct", "figures": {"snr_db": 18.0}},
                {"code": "faster-than-float", "level": "OK", "message": "faster than float", "remedy": "",
                 "figures": {"float_ms": 4.0, "quantized_ms": 2.0, "ratio": 2.0, "low": 1.9, "high": 2.1}},
            ],
        },
        "noise": {
            "samples": 8, "engine": "twin", "seconds": 1.0, "total_snr_db": 24.5, "preparation_snr_db": None,
            "layers": [layer(1, explained=True), layer(0), layer(2, own=None)],
        },
        "kernels": {"integer": 2, "total": 3, "integer_share": 0.9, "runtime": "ONNX Runtime", "by_placement": ""},
        "weights": [
            {"name": "w", "node": "conv_0", "operator": "Conv", "channels": 3, "scales": 1,
             "magnitudes": [0.5, 0.6, 1.0, 1.5, 2.0], "spread": 2.0, "dead": 1, "dead_channels": [1], "vanished": 0,
             "vanished_channels": [], "low": [-1.0, 0.0, -2.0], "high": [0.5, 0.0, 1.0]},
        ],
        "answers": [
            {"index": 7, "held_out": True, "label": 3, "float": {"class": 3, "confidence": 0.91},
             "quantized": {"class": 4, "confidence": 0.45}, "snr_db": 12.0},
            {"index": 0, "held_out": False, "label": None, "float": {"class": 1, "confidence": 0.8},
             "quantized": {"class": 1, "confidence": 0.7}, "snr_db": None},
        ],
        "tensors": [
            {"name": "a<b", "kind": "activation", "type": "u8", "low": -1.0, "high": 2.0, "scale": 0.1,
             "clipped": 0.015, "snr_db": 8},
            {"name": "c", "kind": "activation", "type": "u8", "low": 0.0, "high": 2.0, "scale": 0.1, "clipped": 0.0,
             "snr_db": None},
            {"name": "w", "kind": "weight", "type": "s8", "low": -1.0, "high": 1.0, "scale": [0.001, 0.5]},
        ],
        "left_float": [{"name": "conv_7", "operator": "Conv", "reason": "its weight is computed"}],
        "remedies": remedies(KEPT, DROPPED, FAILED),
        "files": {"model.qdq.onnx": "the INT8 model"},
        "warnings": ["mind <this>"],
        "notes": ["fixed to <that>"],
        "seconds": {"synthesis": 90.0, "calibration": 30.0},
        "run": {
            "command": "dfq-deploy calibrate '<net>.onnx' --synth noise", "options": {"synth": "noise"},
            "versions": {"Python": "3.11.2", "torch": "2.9.0"}, "model_sha256": "ab" * 32, "machine": "Linux, x86_64",
            "processor": "A CPU", "cores": 2, "threads": 1, "date": "2026-11-29T10:00:00+00:00",
        },
        **further,
    }  # fmt: skip
