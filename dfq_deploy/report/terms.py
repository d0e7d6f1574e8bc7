"""The terms of the report and what they mean; docs/glossary.md has the same words."""

from markupsafe import Markup

__all__ = ["MEANINGS", "Glossary"]

MEANINGS = {
    "activation": "A tensor that depends on the input of the model, in contrast to a weight.",
    "agreement": (
        "The percentage of samples for which the float and the quantized model put the same class first. It needs no "
        "labels."
    ),
    "accumulated noise": (
        "The noise of a tensor with all layers before it quantized, as signal to noise. It adds up along the graph."
    ),
    "calibrator": (
        "The plug-in that gives ranges for tensors, from samples: minmax, percentile, entropy, mse."
    ),
    "clipping": "Values outside the range of a tensor become the smallest or the largest value of it.",
    "dead channel": "An output channel of a weight that is zero throughout. It costs time and size, and says nothing.",
    "divergence": (
        "How far the class probabilities of the quantized model are from those of the float model: the "
        "Kullback-Leibler divergence in nats. 0 is no difference."
    ),
    "finding": (
        "One thing that was checked about a result, with its figures, a level (OK, CHECK or BAD) and the way out."
    ),
    "floor": "The result that calibrate works towards: where the first result is below it, remedies are tried.",
    "held-out samples": (
        "Every eighth sample of a set. They are never calibrated with, and are used to compare the float and the "
        "quantized model."
    ),
    "integer kernel": "The code of a runtime that computes an operator on integers, e.g. QLinearConv in ONNX Runtime.",
    "own noise": (
        "What one quantized layer alone costs at the outputs of the model, as signal to noise, with all other layers "
        "in float."
    ),
    "per-channel, per-tensor": "One scale for each output channel of a weight, or one for the whole tensor.",
    "range": "The smallest and the largest value that a tensor is quantized for.",
    "refinement": (
        "A step that improves weights or encodings around calibration: equalization, reconstruction, bias correction "
        "(--refine)."
    ),
    "samples": (
        "Inputs of the model, synthesized or real: float32 (N, C, H, W), with labels where there are any."
    ),
    "scale": "The step between two neighbouring integers: x = (q - zero_point) * scale.",
    "signal to noise": (
        "How large an output is compared with its change by quantization, in dB: 10 log10(sum f^2 / sum (f - q)^2). "
        "20 dB is an error of 10 %."
    ),
    "spread": (
        "How many times larger the largest channel of a weight is than the one in the middle. With one scale for all "
        "channels the small ones have few integers."
    ),
    "target": "What one runtime accepts, as data: integer types, operators, where Q/DQ are placed, rules.",
    "verdict": (
        "The last line of a result: OK (use it), CHECK (it may be good; look, or measure it on real data) or BAD (do "
        "not use it)."
    ),
}  # fmt: skip


class Glossary:
    """Links the first use of each term on a page to its meaning at the end."""

    def __init__(self) -> None:
        self.used: dict[str, str] = {}

    def term(self, name: str, text: str | None = None) -> Markup:
        """``text``, or the term itself; a link where it stands for the first time.

        Raises:
            KeyError: there is no such term.
        """
        shown, meaning = text or name, MEANINGS[name]
        if name in self.used:
            return Markup.escape(shown)
        self.used[name] = meaning
        return Markup('<a class="term" href="#{0}" data-tip="{1}">{2}</a>').format(self.anchor(name), meaning, shown)

    @staticmethod
    def anchor(name: str) -> str:
        """The place of a term's meaning on the page."""
        return f"term-{name.replace(',', '').replace(' ', '-')}"

    def entries(self) -> list[tuple[str, str, str]]:
        """Place, term and meaning of each term that was used, in alphabetical order."""
        return [(self.anchor(name), name, self.used[name]) for name in sorted(self.used)]
