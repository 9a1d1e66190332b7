"""Tables in Markdown."""


def line(cells):
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(head, rows=()):
    """The lines of a table, of the words of its head and the cells of its rows."""
    return "\n".join([line(head), f"|{'---|' * len(head)}", *map(line, rows)])


def bold_best(cells, values):
    """The cells with those in bold whose value is the largest."""
    return [f"**{cell}**" if value == max(values) else cell for cell, value in zip(cells, values, strict=True)]
