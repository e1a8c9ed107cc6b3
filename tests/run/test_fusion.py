"""Who absorbed whom."""

from __future__ import annotations

from coreml_lab.run.fusion import absorbed, leader


def chain(*ops: str) -> tuple[dict[str, str], dict[str, str]]:
    """A straight program; digits at the end tell ops of one kind apart."""
    kinds = {name: name.rstrip("0123456789") for name in ops}
    return kinds, dict(zip(ops, ("", *ops), strict=False))


def test_an_activation_goes_into_the_convolution_before_it() -> None:
    assert absorbed(*chain("conv", "relu", "conv2"), {"conv", "conv2"}) == {"conv": ("relu",)}


def test_a_group_named_after_its_last_op_takes_what_is_before_it() -> None:
    ops = chain("stack", "conv", "relu", "pool")
    assert absorbed(*ops, {"stack", "relu", "pool"}) == {"relu": ("conv",)}


def test_padding_goes_into_the_convolution_after_it() -> None:
    assert absorbed(*chain("relu", "pad", "conv"), {"relu", "conv"}) == {"conv": ("pad",)}


def test_several_followers_go_into_one_kernel() -> None:
    ops = chain("conv", "batch_norm", "add", "relu", "pool")
    assert absorbed(*ops, {"conv", "pool"}) == {"conv": ("batch_norm", "add", "relu")}


def test_what_nothing_claims_goes_to_its_ancestor() -> None:
    assert absorbed(*chain("matmul", "reshape"), {"matmul"}) == {"matmul": ("reshape",)}


def test_what_has_no_kernel_anywhere_is_nobodys() -> None:
    assert absorbed(*chain("reshape"), set()) == {}


def test_a_group_is_led_by_the_member_that_does_the_work() -> None:
    kinds = {"conv": "conv", "relu": "relu", "pad": "pad"}
    assert leader("relu", ("pad", "conv"), kinds) == "conv"
    assert leader("relu", ("pad",), kinds) == "relu"
