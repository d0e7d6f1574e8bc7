"""Plans: several models and targets in one file, for ``dfq-deploy run`` and ``dfq-deploy init``.

============ =======================================================
``init``     ``dfq-deploy init``.
``plan``     Read a plan: a TOML file with a table for each model.
``run``      ``dfq-deploy run``.
``summary``  Print the results of a plan in one table.
``template`` Write a plan with comments from what ``inspect`` finds.
============ =======================================================
"""
