"""The plug-in contract: what a method, a calibrator and an exporter are, and how they are found.

============= =========================================================================
``contracts`` The plug-in contract: the Protocols Synthesizer, Calibrator and Exporter.
``mixture``   Mixtures of synthesis methods: ``procedural+photographs``.
``options``   Validation of options and teachers, shared by the synthesis methods.
``registry``  Find plug-ins by name through entry points.
============= =========================================================================
"""
