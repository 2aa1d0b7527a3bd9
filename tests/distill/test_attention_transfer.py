import pytest

from kdjax.distill.attention_transfer import AttentionTransfer
from tests.distill import peers


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("AT/same", (10, peers.SAME)),
        # The larger map is averaged down before its attention map is taken.
        ("AT/student_half_res_other_width", (30, peers.OTHER)),
    ],
)
def test_it_is_repdistillers(name, student):
    peers.assert_as_referred(
        AttentionTransfer(), name, peers.maps_of(*student), peers.maps_of(20)
    )


def test_with_half_the_weight_it_is_that_of_kd_methods_with_tf(golden):
    peers.assert_as_baseline(AttentionTransfer(weight=500.0), golden, "at")


def test_it_bears_anything():
    peers.assert_bears_anything(AttentionTransfer())
