"""Keyword arguments in a field of a configuration."""

import ast
from typing import Any

from kdjax.config.field import shown


def keywords(field: str, text: str) -> dict[str, Any]:
    """Reads "b1=0.9, nesterov=True" as keyword arguments of literals.

    Args:
      field: name of the field.
      text: its value.

    Raises:
      ValueError: if the text is anything else.
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        if not all(isinstance(x.arg, str) for x in call.keywords):
            raise ValueError
        return {x.arg: ast.literal_eval(x.value) for x in call.keywords}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(
            f"{field}={shown(text)} is not of the form name=value, ..."
        ) from None
