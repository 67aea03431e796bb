"""Tables that the extensions of the book put into a page."""

from collections.abc import Iterable, Sequence

from docutils import nodes

Cell = list[nodes.Node]
"""What stands in one cell of a table."""


def _row(cells: Iterable[Cell]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph("", "", *cell))
    return row


def table(
    heads: Sequence[str], widths: Sequence[int], rows: Iterable[Sequence[Cell]], *classes: str
) -> nodes.table:
    """Make a table.

    Args:
        heads: titles of the columns.
        widths: their widths, in per cent.
        rows: cells of each row.
        *classes: CSS classes of the table.

    Returns:
        The table.
    """
    group = nodes.tgroup(cols=len(widths))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", _row([nodes.Text(head)] for head in heads))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=["colwidths-given", *classes])
