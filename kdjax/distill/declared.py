"""What a method sees of the networks and the batch: what it declares to read."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from kdjax.distill.method import Inputs, Method, Outputs

#: Fields of `Outputs` that may be None, and the attribute of a method that asks for it.
_NEEDS = {
    "logits": "needs_teacher_logits",
    "input_gradient": "needs_input_gradient",
    "classifier": "needs_classifier",
    "second_view": "needs_second_view",
    "rotated": "needs_rotations",
}

_Fields = TypeVar("_Fields", bound=NamedTuple)


def outputs(method: Method, name: str, given: Outputs) -> Outputs:
    """Returns outputs of which a method cannot read None that it did not ask for.

    Args:
      method: that reads them.
      name: of the method in the configuration.
      given: of a network, or their shapes.

    Returns:
      The same values. Reading a field that is None, and that the method does not
      declare to need, raises a ValueError which names the declaration.
    """
    missing = {
        field: need for field, need in _NEEDS.items() if getattr(given, field) is None
    }
    return _guarded(method, name, given, missing)


def inputs(method: Method, name: str, given: Inputs, *, mixed: bool) -> Inputs:
    """Returns inputs, of which a method cannot read the labels of mixed images.

    Nor can it read a second view that there is not. Arguments and the error as for
    `outputs`; `mixed` tells whether images are mixed.
    """
    needs = {"label": "needs_label"} if mixed else {}
    if given.second_image is None:
        needs["second_image"] = "needs_second_view"
    return _guarded(method, name, given, needs)


def _guarded(
    method: Method, name: str, given: _Fields, needs: Mapping[str, str]
) -> _Fields:
    """Returns a tuple of which fields raise an error unless a method declares them."""

    def refusal(field: str, need: str) -> property:
        def refuse(_):
            raise ValueError(
                f"methods.{name} reads {kind.__name__}.{field}, which it is not given "
                f"in this run: {type(method).__name__} lacks {need} = True"
            )

        return property(refuse)

    kind = type(given)
    undeclared = {
        field: refusal(field, need)
        for field, need in needs.items()
        if not getattr(method, need)
    }
    return type(kind.__name__, (kind,), undeclared)(*given) if undeclared else given
