"""The fuzzer behind ``benchmarks/fuzz.py``.

============= =============================================================================
``archives``  Mutate archives of arrays and of images, and images, member by member.
``corpus``    The sound files that inputs are made of.
``messages``  Mutate ONNX files field by field, and by what hostile files are known for.
``readers``   What reads the inputs: each reader with its corpus and its mutations.
``supervise`` Run inputs in child processes, within limits of time and memory.
``text``      Mutate bytes, JSON and lines of text.
============= =============================================================================
"""
