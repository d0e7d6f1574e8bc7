"""Quantization-aware training: the student, its losses, the trainer.

=================== =======================================================================================
``batches``         Training batches, determined by seed, step and process.
``checkpoints``     Training checkpoints.
``distillation``    Distillation loss: teacher outputs (Hinton et al. 2015, arXiv 1503.02531) and features.
``distributed``     Distributed training: several processes (``torchrun``) train one student.
``integer_kernels`` Compute the student exactly as integer kernels do.
``parameters``      Learned weights and biases of the student.
``recipe``          Training hyper-parameters.
``setup``           Build student, teacher, loss and batches from a prepared model.
``student``         The student: the fake-quantized twin with learned parameters.
``trainer``         The training loop.
=================== =======================================================================================
"""
