"""Files and arrays on disk: atomic writes, and memory-mapped large arrays.

================== ============================================
``arrays``         Allocate an array, on disk if large.
``atomic``         Write files and folders atomically.
``encodings_file`` Read and write encodings.json.
``memory``         Physical memory of the machine.
``paths``          Accept a path as a string or a path object.
================== ============================================
"""
