"""The method keeps the contract of dfq-deploy."""

import pytest
from stripes import Stripes

from dfq_deploy.testing import check_synthesizer


@pytest.mark.parametrize("method", [Stripes, Stripes(contrast=0.5)])
def test_stripes_keeps_the_contract(method: type[Stripes] | Stripes) -> None:
    check_synthesizer(method)
