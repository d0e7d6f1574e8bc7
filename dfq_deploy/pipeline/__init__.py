"""The steps in order: synthesize, calibrate, fine-tune, export, evaluate.

================= =====================================================================================
``calibrate``     Post-training quantization from end to end: ``dfq_deploy.calibrate``.
``evaluate``      Evaluate a quantized file, and judge it: ``dfq_deploy.evaluate``.
``export``        Write what a runtime loads from a quantized model: ``dfq_deploy.export``.
``finetune``      Quantization-aware training from end to end: ``dfq_deploy.finetune``.
``fit``           Find encodings: bit widths, refinements and ranges in their order.
``options``       Groups of options that the steps share, and the keywords that stand for their fields.
``results``       Write the results: model, encodings, samples, comparison, report.
``synthesize``    Synthesize samples for a model: ``dfq_deploy.synthesize``.
``train``         Train the student of a prepared model.
``training_data`` Training samples: a fixed set, or a generator that keeps drawing them.
``remedies``      Operators, by family.
================= =====================================================================================
"""
