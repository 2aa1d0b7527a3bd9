"""Elements of an HTML page."""

import html
from collections.abc import Sequence

from kdjax.cli.command_line import escaped


def text(value: object) -> str:
    """Escapes a text for HTML, and characters that are not printable."""
    return html.escape(escaped(str(value)))


def figure(chart: str, caption: str) -> str:
    """Renders a chart, which is HTML, with its caption, which is text."""
    return f"<figure>{chart}<figcaption>{text(caption)}</figcaption></figure>"


def table(rows: Sequence[dict[str, str]]) -> str:
    """Renders a table, without columns that no row fills."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    head = "".join(f"<th>{text(name)}" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(row[name])}" for name in columns) for row in rows
    )
    return (
        f"<div class=wide><table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"
        "</div>"
    )
