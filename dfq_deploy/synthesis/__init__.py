"""Make samples from a model alone.

======================= ==============================================================================================
``bounds``              Decide between which values samples lie: from options, the graph and names of inputs.
``choice``              Choose the synthesis method for a model and its bit widths.
``measured_statistics`` Put BatchNormalization back behind convolutions, with statistics measured on pictures.
``session``             Prepare the request for a synthesis method and run it.
``text``                Samples of a model of tokens from lines of text, or from its vocabulary.
``states``              States and caches of streaming models: what the model returns is fed back to it.
``teacher_hierarchy``   Order several teachers from similar to diverse (LIS).
``teachers``            Load teachers, including those with a different preprocess.
``generators``          Generator networks: architecture, training, and the methods built on them.
``inversion``           Gradient descent on the samples: the loop, its objective, batches, early stopping and journal.
``losses``              Loss terms of the synthesis methods.
``methods``             The synthesis methods, one a file.
``moments``             Means and variances propagated through a network in closed form.
``procedural``          Inputs drawn by rule, without looking at the weights.
======================= ==============================================================================================
"""
