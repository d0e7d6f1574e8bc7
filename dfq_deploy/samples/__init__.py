"""Inputs for a model: the sample set, its files, real images, batches, pictures of it.

================= ================================================================================
``augmentation``  Augment samples: mirror, shift, soften, mix.
``batches``       Split and batch samples for calibration, the twin and ONNX Runtime.
``contact_sheet`` Draw samples.png.
``data_readers``  Samples as data readers of ONNX Runtime and Polygraphy.
``describe``      Describe the figures of a sample set in words.
``image_folder``  Read images from a folder or zip, or arrays from .npz and .npy.
``labels``        Class labels from the folders that images lie in, and from files of class names.
``npz``           Read and write the arrays of a samples file (.npz or .npy).
``photographs``   Photographs in the public domain, cropped and jittered without end.
``preprocess``    Preprocessing: ``(pixel / 255 - mean) / std``, channel by channel.
``samples``       The sample set and its .npz file.
``sizes``         Which images count as large, and how many samples suit them.
================= ================================================================================
"""
