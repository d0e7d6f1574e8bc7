"""Compare float and quantized models: outputs, tensors, latency, quality of samples.

===================== ===============================================================================================
``answers``           What the float and the quantized model answer to single samples.
``attempts``          Run checks that stand alone: one that fails leaves a sentence, and the others go on.
``bias_layers``       The biases of a quantized file beside those that the float model explains.
``biases``            Compare each bias of a quantized file with the float model's.
``changed_nodes``     Find nodes of the float model that a quantized file lacks, or computes otherwise.
``common_tensors``    Cut the graphs of a float model and of its quantized file at the tensors that both have.
``compare``           Compare the outputs of the float and the quantized model on the same samples.
``derived_scales``    Find the activation whose wrong scale makes a bias wrong.
``detection``         Evaluate detectors: decode their outputs, compare boxes and scores, mean average precision.
``equalized_weights`` Undo cross-layer equalization in a quantized file: find the factor of each channel.
``evaluate``          Evaluate a quantized file against its float file: the figures of ``dfq_deploy.evaluate``.
``file_checks``       Check what a quantized file holds against its float model: weights, scales, biases, nodes.
``file_fault``        A fault of a quantized file beside its scales: a bias, a node, the wrong float model.
``flat_readers``      Values behind the functions that read a tensor, where these are flat for a part of its values.
``float_file``        The float model of an evaluation: its file, and how it is fed.
``float_weights``     Find the float weight that a quantized one was made from, and tell the file of another network.
``integer_layers``    Rewrite layers that compute on integers as float layers between Q and DQ, to be checked alike.
``latency``           Time two models in turn in one process.
``layer_bias``        Read the bias of a layer, of the float model or of a quantized file.
``metrics``           Agreement, top-1 and signal-to-noise ratio, accumulated slice by slice.
``missing_clips``     Tell a Relu or Clip that a file lacks from a wrong zero point of integers that stand for it.
``output_distance``   How far one output of a quantized model is from float's, accumulated slice by slice.
``own_metric``        Measure a figure of the user's own on the outputs of the float and the quantized model.
``qdq_pairs``         Read the quantized activations and weights of a QDQ graph, of any tool.
``rescaled_tensors``  Find the tensors of a float model that a Mul of its quantized file multiplies channel by channel.
``sample_quality``    Quality figures of a sample set: statistics, classes, confidence, diversity.
``scale_check``       The check of one quantized tensor: how much noise its scale adds, and what causes it.
``scale_checks``      Compare each scale of a quantized file with the scale that the float model's values need.
``task_errors``       Compare what a model is for, where that is stated: classes of pixels, numbers, embeddings.
``tensor_values``     Values of a model's tensors on a few samples, channel by channel.
``tensors``           Compare float and quantized values tensor by tensor.
``weight_channels``   Ranges of the channels of each quantized weight, and the channels that are zero.
``weight_checks``     Compare each weight of a quantized file with the float model's: scale, zero point, values.
===================== ===============================================================================================
"""
