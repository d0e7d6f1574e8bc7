"""Image files: find them in a folder or zip, decode them within limits, fit them to a model's input.

=============== ==========================================================================================
``decoding``    Decode an image file within limits: known formats, a bounded size, 8 bits.
``fitting``     Fit pictures to a model's input: resized, cropped at the center, preprocessed, within the memory.
``listing``     Find the image files of a folder or zip, and their sizes.
``orientation`` Turn photographs upright, as their EXIF block says.
``originals``   What image files were like before they became samples: how small, and how many bits they use.
=============== ==========================================================================================
"""
