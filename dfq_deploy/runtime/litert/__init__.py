"""Run .tflite files with LiteRT, the runtime of phones.

=============== =====================================================================================================
``interpreter`` Run a .tflite file on arrays in the order of the ONNX model, and tell which operations XNNPACK took.
``package``     Import LiteRT's package and the schema of its files.
``runner``      Run a .tflite file on samples, as a Runner of ONNX Runtime runs an ONNX file.
=============== =====================================================================================================
"""

from dfq_deploy.runtime.litert.package import interpreter_class, is_installed, schema

__all__ = ["interpreter_class", "is_installed", "schema"]
