"""Make samples from a model alone.

===================== ==================================================================================================
``session``           Choose teacher, sizes and fallback, then run a method.
``teacher_hierarchy`` Order several teachers from similar to diverse (LIS).
``teachers``          Read teachers, also with a preprocess of their own.
``generators``        Generator networks: architecture, training, and the methods built on them.
``inversion``         Gradient descent on the samples: DeepInversion's loss, the loop, batches, early stopping, journal.
``losses``            Single loss terms, which ``inversion`` and ``generators`` add up.
``methods``           The synthesis methods, one a file.
``moments``           Means and variances propagated through a network in closed form.
``procedural``        Inputs drawn by rule, without looking at the weights.
===================== ==================================================================================================
"""
