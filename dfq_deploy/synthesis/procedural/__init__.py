"""Inputs drawn by rule, without looking at the weights.

============= ================================================================================================
``blur``      Gaussian blur of a picture, with reflected borders.
``documents`` Writing: pages of a document, and signs in a scene.
``faces``     Face-like pictures: smooth ovals with eyes, brows and a mouth, on a scene out of focus.
``inputs``    Rules for token ids, masks, lengths and scales.
``leaves``    Opaque leaves that occlude each other: ellipses and polygons with radii distributed as 1 / r^3.
``lines``     One line of writing that fills the picture, as text recognizers read it.
``pictures``  Procedural pictures: a mixture of scenes, pages, signs, faces and skies, as a camera would take them.
``scenes``    Scenes of leaves: a background, often out of focus, and an object in front of it.
``sequences`` Token ids, masks, types and positions of samples of varied lengths, which agree with each other.
``signals``   Procedural signals: sound, vibration, series.
``textures``  Textures: noise with a power law, and waves.
============= ================================================================================================
"""
