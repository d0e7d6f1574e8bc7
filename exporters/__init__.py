"""Exporters: one module for each kind of file. Installed as ``dfq_deploy.exporters``.

=================== ================================================================================================
``aimet``           AIMET: the float model as it was prepared, and an encodings file that AIMET's simulation loads.
``dynamic``         Dynamic quantization: DynamicQuantizeLinear and MatMulInteger, DynamicQuantizeLSTM.
``float_clips``     Relu and Clip that read floats of an integer product, as Max and Min.
``half``            Half precision for the part of a quantized model that stays in float.
``litert``          LiteRT (TensorFlow Lite): writes .tflite files without TensorFlow, and tries them.
``ort_mobile``      ONNX Runtime's ORT format for phones, and the list of operators that a reduced build needs.
``qdq``             QDQ file for ONNX Runtime: inserts Q and DQ, writes integer weights and int32 biases.
``qnn``             Qualcomm's NPU through QNN: the QDQ file, and a context binary that loads without compiling.
``rknn``            Rockchip's NPUs: the QDQ file that RKNN-Toolkit2 reads, with float biases and static shapes.
``storage``         Storage of integers of each width in an ONNX file.
``tables``          Tables of a Gather as integers, of which only the rows that are looked up are dequantized.
``tensorrt``        TensorRT: the QDQ file, an engine where TensorRT or TensorRT-RTX is, and a cache for version 10.
``tensorrt_engine`` Build a TensorRT engine from a QDQ file, with TensorRT's Python package and an NVIDIA GPU.
``tensorrt_rtx``    Build TensorRT-RTX engines ahead of time, for GPUs that are not here, and list their layers.
``tensorrt_run``    Run a TensorRT engine on samples: compare it with ONNX Runtime, and time it.
``weight_blocks``   Weights in blocks: MatMulNBits of ONNX Runtime.
=================== ================================================================================================
"""
