"""Image files: find them in a folder or zip, decode them within limits.

============= =================================================================================
``decoding``  Decode an image file within limits: known formats, a bounded size, 8 bits.
``listing``   Find the image files of a folder or zip, and their sizes.
============= =================================================================================
"""
