"""Files and arrays on disk: written whole or not at all, mapped where they are large.

========== ============================================
``arrays`` Allocate an array, on disk if large.
``atomic`` Write files and folders whole or not at all.
``memory`` How much memory the machine has.
========== ============================================
"""
