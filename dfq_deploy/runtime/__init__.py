"""Run models in ONNX Runtime and LiteRT, and talk to TensorRT.

=================== ==========================================================================================
``activations``     Compute the activations of a float model, a few samples at a time.
``file_graph``      The graph of a file that a session runs: what it says beside names and types.
``integer_io``      Feed and read models with integer inputs and outputs.
``kernel_count``    The layers of a file with the kernels that a runtime uses: Kernel and KernelCount.
``kernels``         Count the layers that run in integers, in the graph that ONNX Runtime optimizes.
``layers``          Weighted layers: their operators, integer or float, and their multiply-accumulates.
``litert``          Run .tflite files with LiteRT, the runtime of phones.
``moved_batch``     Models whose batch does not stand first: states [layers, batch, size], tokens [time, batch].
``other_sizes``     Other sizes to measure ranges at, where the sizes of a model are open and one was chosen.
``plugin_nodes``    Cut a model at nodes that ONNX Runtime does not have, such as TensorRT's plug-ins.
``processor``       Tell whether integer sums saturate on this processor.
``profile``         Time the nodes of a model with ONNX Runtime's profiler.
``runner``          Run a model on any number of samples.
``session``         ONNX Runtime sessions on files and on models in memory.
``size_candidates`` Sizes to try where the inputs of a model leave them open, in their order.
``sizes``           Load a float model with sizes to measure at: those that are stated, or the first that run.
``tagged``          Number the nodes of a model to trace ONNX Runtime's kernels back to them.
``tensorrt``        TensorRT's Python package and its calibration cache.
``trial``           Run a model once, to see at which shapes of its inputs it runs.
``wasm``            Time two models in WebAssembly, with Node and onnxruntime-web, where they are installed.
=================== ==========================================================================================
"""
