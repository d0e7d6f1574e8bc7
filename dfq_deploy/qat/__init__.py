"""Quantization-aware training without data: a fake-quantized student, taught by the float teacher."""
