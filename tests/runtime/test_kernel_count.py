"""Names of kernels in messages."""

from dfq_deploy.runtime.kernel_count import short_name


def test_a_long_name_is_shortened_in_the_middle() -> None:
    name = "model/conv1/BiasAdd;" * 10 + "model/conv9"
    assert short_name("conv") == "conv"
    assert short_name(name) == f"{name[:30]}...{name[-27:]}"
    assert len(short_name(name)) == 60
