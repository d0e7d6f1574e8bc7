"""Files and arrays on disk: written whole or not at all, mapped where they are large.

=================== =============================================================================
``aimet_encodings`` AIMET's encodings files: versions 0.6.1 and 1.0.0 are read, 1.0.0 is written.
``arrays``          Allocate an array, on disk if large, and read it without keeping it in memory.
``atomic``          Write files and folders atomically.
``claim``           Let only one run at a time write to a place.
``encodings_file``  Read and write encodings.json.
``json_text``       Write JSON that every parser reads, and parse JSON from anywhere.
``memory``          Memory of the machine, or of the container.
``overwriting``     Refuse to write over what is read.
``paths``           Accept a path as a string or a path object.
``sealed``          Write and read the state of an interrupted run, with a checksum.
``staging``         Make temporary files and folders, and remove those of runs that were killed.
``unfinished``      The folder of an unfinished synthesis: name it, recognize it, remove it.
``written``         What the running command has written: its results, not its temporary files.
=================== =============================================================================
"""
