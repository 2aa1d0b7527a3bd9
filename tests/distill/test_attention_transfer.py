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
def test_matches_repdistiller(name, student):
    peers.assert_matches_reference(
        AttentionTransfer(), name, peers.maps_of(*student), peers.maps_of(20)
    )


def test_matches_kd_methods_with_tf_at_half_weight(golden):
    peers.assert_matches_baseline(AttentionTransfer(weight=500.0), golden, "at")


def test_degenerate_inputs():
    peers.assert_robust_to_degenerate_inputs(AttentionTransfer())
