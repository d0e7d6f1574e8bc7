"""bfloat16 where the hardware has it, and nowhere else."""

import pytest
import torch

from dfq_deploy.twin.precision import autocast, has_fast_bfloat16


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [({}, False), ({"avx512_f": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_what_the_processor_can_decides(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], fast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    device = torch.device("cpu")
    assert has_fast_bfloat16(device) is fast
    with autocast(device):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if fast else torch.float32)


def test_other_devices_have_none() -> None:
    assert not has_fast_bfloat16(torch.device("meta"))
