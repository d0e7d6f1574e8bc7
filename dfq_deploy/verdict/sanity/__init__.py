"""Do samples, preprocess and labels fit the network.

====================== ==============================================================================================
``drawn_inputs``       Say which inputs were drawn from a guess, because nothing in the model tells their values.
``findings``           Sanity of what goes in: do samples and preprocess fit the network.
``input_scale``        Compare the scale of samples with what the first layers of a network expect.
``labels``             Say where the labels of a sample set are not the model's classes.
``photograph_answers`` Compare what a network answers to the same photographs under several preprocesses.
``pixel_depth``        Name pictures of 16 bits that use only the lowest of them, and so look almost black.
``preprocess_answers`` Judge a preprocess by the answers of a network that has no BatchNormalization.
``preprocess_fit``     Judge a preprocess by the input statistics that a network expects, and name the best one.
``preprocess_missing`` Judge samples that were drawn without a preprocess: do mean 0 and deviation 1 fit the network.
``preprocess_offsets`` Judge a preprocess by the offsets of the first layers, for networks without BatchNormalization.
``preprocess_photos``  Judge a preprocess by the answers of a classifier of color pictures to photographs.
``response``           Measure how a network responds to samples: its first layer, and its answers.
``sample_figures``     Judge the quality figures of a sample set: classes, diversity, confidence, statistics.
``sample_set``         Judge a sample set by itself: number, repeats, constant samples, range of the values.
``signs``              Weigh the signs for and against a preprocess against each other.
====================== ==============================================================================================
"""
