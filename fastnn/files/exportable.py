"""`export`, a method of all that is trained. What it calls is a wing, which is found by its public name."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


class Exportable:
    """What has a method `export`."""

    def export(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the network to a file that other systems read, see `fastnn.export`, whose options these are.

        Examples
        --------
        >>> import fastnn, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "net.py")
        >>> fastnn.Model([2, 3, 1], rng=0).export(path)
        >>> os.listdir(os.path.dirname(path))
        ['net.py']
        """
        package = __package__.rpartition(".")[0]
        import_module(package).export(self, path, **options)
