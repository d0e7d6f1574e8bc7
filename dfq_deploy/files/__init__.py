"""Files and arrays on disk: written whole or not at all, mapped where they are large.

================== ===========================================
``arrays``         Allocate an array, on disk if large.
``atomic``         Write files and folders atomically.
``encodings_file`` Read and write encodings.json.
``json_text``      Write JSON that every parser reads.
``memory``         Physical memory of the machine.
``paths``          Accept a path as a string or a path object.
================== ===========================================
"""
