"""Quantization-aware training: the student, its losses, the trainer.

=================== =======================================================================================
``batches``         Training batches: a function of seed, step and process alone.
``checkpoints``     Training checkpoints.
``distillation``    Distillation loss: teacher outputs (Hinton et al. 2015, arXiv 1503.02531) and features.
``distributed``     Several processes (``torchrun``) that train one student.
``integer_kernels`` Compute the student exactly as integer kernels do.
``parameters``      Learned weights and biases of the student.
``recipe``          Training hyper-parameters.
``setup``           Build student, teacher, loss and batches from a prepared model.
``student``         The student: the fake-quantized twin with learned parameters.
``trainer``         The training loop.
=================== =======================================================================================
"""
