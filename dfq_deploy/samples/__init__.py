"""Inputs for a model: the sample set, its files, real images, batches, pictures of it.

====================== ===============================================================================================
``affine``             What constants a node applies to its input, such as a mean and a deviation.
``augmentation``       Augment images: mirror, shift, soften, mix.
``batches``            Split and batch samples for calibration, the twin and ONNX Runtime.
``contact_sheet``      Draw the contact sheet samples.png.
``data_readers``       Samples as data readers of ONNX Runtime and Polygraphy.
``describe``           Describe the figures of a sample set in words.
``feature_statistics`` Mean and deviation of each feature of an input, where the graph standardizes it by itself.
``image_folder``       Read images from a folder or zip, or arrays from .npz and .npy.
``input_statistics``   Estimate mean and deviation of the training inputs from the first BatchNormalization.
``labels``             Class labels from folder names and from files of class names.
``npz``                Read and write the arrays of a samples file (.npz or .npy).
``photographs``        Random crops of photographs in the public domain.
``pictures``           Image files: find them in a folder or zip, decode them within limits, fit them to a model's
                       input.
``preprocess``         Preprocessing: ``(pixel / 255 - mean) / std``, channel by channel.
``raw_pixels``         Say whether a network takes pixels from 0 to 255, because it normalizes them itself.
``samples``            The sample set and its .npz file.
``sizes``              Decide which images are large or a line of text, and the default number of samples.
``vocabulary``         Token ids from text and from vocabularies: ``vocab.txt``, ``tokenizer.json``, lines of text.
====================== ===============================================================================================
"""
