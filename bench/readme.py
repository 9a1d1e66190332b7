"""Write the figures of README.md and docs/ anew, or list those that are of other kernels than today's.

Figures stand between two lines of a page. The last line says what measured them: the command, the hash of kernels/,
the CPU and the day:

    <!-- figures peers -->
    | a table |

    `python -m bench peers --threads 1`, kernels 3f2a9c1b, AMD EPYC with AVX-512, 2 CPUs, 2026-11-30
    <!-- /figures -->

A question that can write a block has its name in FIGURES, {name: a function of what `run` gives}, and in PICTURES the
block's picture, {name: (file, a function that draws into it)}. Blocks of the same command are written from one run.
Those of examples are pasted by hand, then `--stamp` gives them the hash, the CPU and the day. `--check` ends with
status 1 where it lists any. With `--quick` nothing is written, only printed.
"""

import argparse
import datetime
import re
import shlex
import sys
import time
from pathlib import Path
from typing import NamedTuple

from .__main__ import parsed
from .machine import cpu, isa, kernels_hash
from .markdown import PRINTED

PLACES = "DIR", "FANN", "PATH"


def _place(text):
    """(name, path) of NAME=PATH."""
    name, _, path = text.partition("=")
    if name not in PLACES or not path:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(PLACES)}, then = and a path, got {text!r}")
    return name, path


ROUNDS = None  # each command has its own
OPTIONS = {
    "--check": {"action": "store_true", "help": "list the blocks of other kernels than today's, and measure nothing"},
    "--only": {
        "nargs": "+",
        "metavar": "TEXT",
        "help": "only blocks with this name, or this text in their command",
    },
    "--old": {"action": "store_true", "help": "only the blocks that --check lists"},
    "--stamp": {"action": "store_true", "help": "give blocks that were pasted by hand the hash, the CPU and the day"},
    "--place": {
        "nargs": "+",
        "type": _place,
        "default": [],
        "metavar": "NAME=PATH",
        "help": "what a name in the commands is: DIR, MNIST's IDX files; FANN, FANN's datasets; PATH, another checkout",
    },
}
ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures ", "<!-- /figures -->\n"
BLOCK = re.compile(
    r"^<!-- figures (?P<name>[\w-]+) -->\n(?P<text>.*?)"
    r"^`(?P<command>python [^`\n]+)`, "
    r"kernels (?P<kernels>[0-9a-f]{8}|older), (?P<cpu>[^\n]+), (?P<date>\d{4}-\d\d-\d\d)\n"
    r"<!-- /figures -->\n",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A block of figures in a page."""

    page: Path
    name: str
    whole: str  # all its lines
    text: str  # between its first line and the source
    command: str
    kernels: str
    cpu: str
    date: str

    @property
    def is_old(self):
        """Whether the kernels have changed since."""
        return self.kernels != kernels_hash()

    def matches(self, texts):
        """Whether its name is one of some texts, or its command has one of them."""
        return any(text == self.name or text in self.command for text in texts)

    def write(self, text):
        """Replace the block in its page by one of today: other text, kernels, CPU and day."""
        source = f"`{self.command}`, kernels {kernels_hash()}, {cpu()}, {datetime.date.today()}\n"
        page = self.page.read_text(encoding="utf-8")
        block = f"{BEGIN}{self.name} -->\n{text.strip()}\n\n{source}{END}"
        self.page.write_text(page.replace(self.whole, block), encoding="utf-8")


def blocks(root):
    """All blocks of README.md and docs/, in order."""
    found = []
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        content = page.read_text(encoding="utf-8")
        in_page = [Block(page, m["name"], m[0], *m.group("text", *Block._fields[4:])) for m in BLOCK.finditer(content)]
        if not len(in_page) == content.count(BEGIN) == content.count(END) == sum(b.whole.count(BEGIN) for b in in_page):
            raise ValueError(f"{page}: `{BEGIN}NAME -->` needs a line of its source and `{END.strip()}` below it")
        found += in_page
    return found


def check(found):
    """Print the blocks that are old; whether there are any."""
    old = [block for block in found if block.is_old]
    for block in old:
        print(f"{block.page.relative_to(ROOT)}: {block.name}, kernels {block.kernels}, {block.cpu}, {block.date}")
        print(f"    {block.command}")
    return bool(old)


def arguments(command, places):
    """What follows `python -m bench` in a command, with what `places` has for names; None for another command."""
    words = shlex.split(command)
    return [places.get(word, word) for word in words[3:]] if words[1:3] == ["-m", "bench"] else None


def renew(command, found, options):
    """Run a command once, and write its blocks and pictures."""
    words = arguments(command, dict(options.place))
    module, its_options = parsed(words) if words is not None else (None, None)
    written = [block for block in found if block.name in getattr(module, "FIGURES", {})]
    for block in found:
        if block not in written:
            print(f"{block.name}: by hand, `{command}`")
    if written and (missing := set(PLACES) & set(words)):
        print(f"{written[0].name}: needs --place {missing.pop()}=..., `{command}`")
    elif written and its_options.isa != isa():  # libraries have read that when they were loaded
        print(f"{written[0].name}: needs {f'--isa {its_options.isa}' if its_options.isa else 'no --isa'}, `{command}`")
    elif written:
        print(f"\n{command}", flush=True)
        its_options.quick = options.quick
        PRINTED.clear()
        start = time.monotonic()
        results = module.run(its_options)
        print(f"took {time.monotonic() - start:.0f} s", flush=True)
        for block in written:
            text = module.FIGURES[block.name](results)
            if text is None:
                print(f"{block.name}: not measured here")
                continue
            if options.quick:
                print(f"\n{text}")
                continue
            block.write(text)
            if block.name in getattr(module, "PICTURES", {}):
                file, draw = module.PICTURES[block.name]
                draw(results, ROOT / file)


def run(options):
    """List, stamp or write the blocks that are chosen."""
    found = [block for block in blocks(ROOT) if not options.only or block.matches(options.only)]
    if options.check:
        sys.exit(check(found))
    if options.old:
        found = [block for block in found if block.is_old]
    if options.stamp:
        for block in found:
            block.write(block.text)
        return
    for command in dict.fromkeys(block.command for block in found):
        renew(command, [block for block in blocks(ROOT) if block.command == command], options)
