"""Tables: in Markdown, and on the screen while their lines come."""

PRINTED = {}  # {name: the latest table of that name}: blocks of `python -m bench readme`


def line(cells):
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(head, rows=()):
    """The lines of a table, of the words of its head and the cells of its rows."""
    return "\n".join([line(head), f"|{'---|' * len(head)}", *map(line, rows)])


def bold_best(cells, values):
    """The cells with those in bold whose value is the largest."""
    return [f"**{cell}**" if value == max(values) else cell for cell, value in zip(cells, values, strict=True)]


class Table:
    """A table that is printed line by line, as its rows are added; `str` of it is Markdown."""

    def __init__(self, name, *head, title=""):
        """name: that of its block in the pages."""
        PRINTED[name] = self
        self._head, self._rows = [str(name) for name in head], []
        print(f"\n{title or name}\n", flush=True)

    def add(self, *cells):
        """Print a row."""
        cells = [str(cell) for cell in cells]
        first = max(len(self._head[0]), len(cells[0]), 28)
        widths = [max(len(name), 9) for name in self._head[1:]]
        for row in [cells] if self._rows else [self._head, cells]:
            others = (f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
            print(f"{row[0]:{first}}{''.join(others)}".rstrip(), flush=True)
        self._rows.append(cells)

    def __str__(self):
        return table(self._head, self._rows)


def printed(*names):
    """{name: a function of what a question's `run` gives} of blocks that are tables which it prints.

    The function gives None for a table that was not printed: what it needs is not there, or it was quick.
    """
    return {name: lambda _, name=name: str(PRINTED[name]) if name in PRINTED else None for name in names}
