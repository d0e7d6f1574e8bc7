"""Files and arrays on disk: written whole or not at all, mapped where they are large.

================== ============================================
``arrays``         Allocate an array, on disk if large.
``atomic``         Write files and folders whole or not at all.
``encodings_file`` Read and write encodings.json.
``memory``         How much memory the machine has.
``paths``          Accept a path as text or as a path object.
================== ============================================
"""
