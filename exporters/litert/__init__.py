"""LiteRT (TensorFlow Lite): writes .tflite files without TensorFlow, and tries them.

================= =====================================================================================================
``conversion``    Write a graph, float or with Q and DQ, as tensors and operations of a .tflite file.
``exporter``      The exporter ``litert``: options, files, what the trial on this machine says.
``metadata``      Metadata in TensorFlow Lite's own schema (M001): normalization of images, file of labels.
``orders``        Orders of axes: how a tensor of the graph lies in the file, and what moving its axes costs.
``registry``      Registry of operators: how each operator of ONNX is written.
``serialization`` Serialize with TensorFlow Lite's flatbuffer schema; the same input gives the same bytes.
``source``        Bring the graph into the form that is written: static shapes, no idle node, joined activations.
``step``          One node while it is written: its inputs as the operation takes them, and where its output goes.
``tensors``       Tensors and operations of a .tflite file before it is serialized.
``trial``         Run a .tflite file: compare it with ONNX Runtime on the QDQ file, time it, count what XNNPACK takes.
``values``        What lies in the file for each tensor of the graph: floats, integers, or both.
``writer``        Add tensors and operations to a file: constants once each, quantization, moves of axes.
``operators``     How operators of ONNX are written, one module for each family.
================= =====================================================================================================
"""

from .exporter import LiteRT

__all__ = ["LiteRT"]
