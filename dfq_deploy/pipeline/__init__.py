"""The steps in order: synthesize, calibrate, fine-tune, export.

====================== ============================================================================================
``activations``        Static or dynamic activations: quantize both ways, measure, and take the better one.
``after_evaluation``   The command to paste next, from the finding that decides the verdict on an evaluation.
``calibrate``          Post-training quantization from end to end: ``dfq_deploy.calibrate``.
``earlier_prediction`` What was predicted when a file was quantized, from the report beside it.
``evaluate``           Evaluate a quantized file, and judge it: ``dfq_deploy.evaluate``.
``export``             Write the file that a runtime loads, from a quantized model: ``dfq_deploy.export``.
``figures``            The figures of a report: comparison, tensors, single samples, the verdict.
``finetune``           Quantization-aware training from end to end: ``dfq_deploy.finetune``.
``fit``                Turn a float model and samples into encodings: bit widths, refinements and ranges, in order.
``foreign_encodings``  Encodings that AIMET made, for a model that is prepared for a target.
``keywords``           The keywords of the steps: the fields of their option groups, and the refusal of others.
``next_command``       The command to paste next, from the finding that decides a verdict.
``options``            Option groups that the steps share, and what options mean.
``outcome``            What the steps before the export have found, and the model as the target takes it.
``remedies``           Work towards a floor: try remedies, cheapest first, measure each, and keep what gains.
``reporting``          What a report says beside the figures: how it was made, single samples and channels, another run.
``results``            Write the results: model, encodings, samples, comparison, report.
``synthesize``         Synthesize samples for a model: ``dfq_deploy.synthesize``.
``train``              Train the student of a prepared model.
``training_data``      Training samples: a fixed set, or a generator that keeps drawing new ones.
====================== ============================================================================================
"""
