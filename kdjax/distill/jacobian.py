"""Jacobian matching: Srinivas and Fleuret, "Knowledge Transfer with Jacobian Matching"
(ICML 2018).

The student's logit of the true class is to depend on the pixels as the teacher's does.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jacobian(Method):
    """Squared difference of the directions of the two input gradients.

    With J the gradient of the true class's logit with respect to the image, the term
    `jacobian` is || J_s / ||J_s|| - J_t / ||J_t|| ||^2, between 0 and 4. Its gradient
    is of second order: a step differentiates the student's gradient once more. Where
    batch norms follow the batch, a logit depends on the batch's other images too, and J
    is the gradient of the sum of all their logits.

    Which scalar is differentiated is as in AberHu/Knowledge-Distillation-Zoo,
    `sobolev.py`.

    Differs from the original in: the scalar, for transfer between data sets, where the
    paper takes the largest entry of an attention map; a gradient of zero has the
    direction zero, and no gradient.

    Attributes:
      weight: on the sum over the image's entries; our choice, no published value was
        found. Knowledge-Distillation-Zoo has 20 on their mean, which is 6.5e-3 on the
        sum for 32x32 images.
    """

    name = "jacobian"
    taxonomy = Taxonomy(
        teacher_transform="input gradient of the true class's logit, of length 1",
        student_transform="input gradient of the true class's logit, of length 1",
        position="logits",
        distance="L2",
        missing_information="all but the direction of the gradient",
    )
    needs_teacher_logits = True
    needs_label = True
    needs_input_gradient = True

    weight: float = 1.0

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the squared difference of the directions, [B]."""
        term = losses.jacobian(student.input_gradient, teacher.input_gradient)
        return {"jacobian": term}, {}
