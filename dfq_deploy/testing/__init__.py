"""Checks that a plug-in keeps its contract, for the tests of whoever writes one.

::

    from dfq_deploy.testing import check_synthesizer

    def test_stripes_keeps_the_contract() -> None:
        check_synthesizer(Stripes)

Each check takes the class or an instance, needs no entry point, and raises AssertionError with the name of the plug-in,
what it did, and what the contract (:mod:`dfq_deploy.plugins.contracts`) asks for.

================ ==========================================================================
``calibrators``  Check a calibrator: every tensor, any batches, values covered, no hoarding.
``exporters``    Check an exporter: files whole or none, a quantized model that runs.
``models``       The small network that plug-ins are checked on.
``options``      Check what all plug-ins share: a frozen dataclass of options with a summary.
``sources``      Check what a generative method trains: draws, state, steps.
``synthesizers`` Check a synthesis method: samples, seeds, global state, interruptions.
================ ==========================================================================
"""

from dfq_deploy.testing.calibrators import check_calibrator
from dfq_deploy.testing.exporters import check_exporter
from dfq_deploy.testing.synthesizers import check_synthesizer

__all__ = ["check_calibrator", "check_exporter", "check_synthesizer"]
