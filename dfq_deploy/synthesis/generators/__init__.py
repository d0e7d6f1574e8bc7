"""Generator networks: architecture, training, and the methods built on them.

============ ==============================================================
``file``     Save and load trained generators.
``latents``  GENIE's latent vectors and generator (Jeon et al., CVPR 2023).
``losses``   Generator losses: entropies, divergences, distances.
``method``   Base class of methods that train a generator.
``networks`` Generator networks for images of any size.
``training`` Train generators against a teacher and draw samples from them.
============ ==============================================================
"""
