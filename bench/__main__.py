"""`python -m bench QUESTION`: what is fast, what is not, and beside what. Without a question: `baselines`."""

import argparse
import importlib
import os
import sys

from .cases import count
from .machine import ISAS

QUESTIONS = {
    "baselines": "How fast does fastnn train beside plain NumPy and plain Numba?",
    "peers": "How fast does fastnn train and predict beside JAX, PyTorch, scikit-learn and ONNX Runtime?",
    "populations": "How many networks a second are trained where there are a thousand of them?",
    "estimators": "How much faster are the estimators than scikit-learn's?",
    "tables": "How good are networks on tables, beside linear models, gradient boosting and other networks?",
    "search": "What does a search take beside its fits, and beside scikit-learn's?",
    "groups": "How long does a network for each of 100,000 groups take, and an ensemble, and in what memory?",
    "training": "What does each activation, loss, optimizer and rule cost?",
    "calls": "What does a small call cost?",
    "start": "What do imports and the first fit of a process take?",
    "export": "How long do exported files take for a row, beside what others write, and how large are they?",
    "outside": "What do a minibatch of PPO and derivatives by the inputs cost, here and in PyTorch?",
    "threads": "What does a second thread give, alone and beside a busy loop?",
    "steps": "Where does the time of a training step go, and which orientation is faster?",
    "streams": "What does training take in memory, and on samples that are not in memory?",
    "mnist": "How long does it take to 97% on MNIST, here and in JAX?",
    "cluster": "What does an engine take beside threads, and what would many machines take?",
    "workers": "What does a model lose and gain where several workers train it, and how many of them pay?",
    "simplechains": "How long does the benchmark of SimpleChains.jl take?",
    "fann": "What is left of the error in saturated wrong outputs, on FANN's data sets?",
    "wide": "Which limit do the products of wide layers meet on this CPU?",
    "roofline": "What can one core of this machine do?",
    "readme": "What do the tables of README.md and docs/ say today, and which of them are old?",
}
USAGE = """usage: python -m bench [QUESTION] [OPTION ...]

{}

Without a question it is `baselines`. All take --quick and --isa, and all but `readme` --rounds; `python -m bench
QUESTION --help` shows the other options.
""".format("\n".join(f"    {name:14}{sentence}" for name, sentence in QUESTIONS.items()))


def _parser(question, module):
    """The options of a question: those that all have, and its module's."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        f"python -m bench {question}", description=module.__doc__, formatter_class=formatter
    )
    if module.ROUNDS:
        parser.add_argument("--rounds", type=count, default=module.ROUNDS, help="rounds in turn (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="little of everything: shows that it works")
    parser.add_argument("--isa", choices=ISAS, help="the largest instruction set of all packages")
    for name, settings in module.OPTIONS.items():
        parser.add_argument(name, **settings)
    return parser


def parsed(arguments):
    """(the module of the question, its options) of a command line, or (None, None) where it asks for help."""
    if arguments[:1] in (["-h"], ["--help"]):
        return None, None
    question, *others = arguments if arguments and not arguments[0].startswith("-") else ["baselines", *arguments]
    if question not in QUESTIONS:
        print(f"{USAGE}\nthere is no question {question!r}", file=sys.stderr)
        sys.exit(2)
    module = importlib.import_module(f".{question}", __package__)
    return module, _parser(question, module).parse_args(others)


def main(arguments=None):
    """Answer the question that the command line asks."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    module, options = parsed(arguments)
    if module is None:
        print(USAGE, end="")
        return
    if options.isa and not ISAS[options.isa].items() <= os.environ.items():  # libraries read these when they load
        os.environ |= ISAS[options.isa]
        os.execv(sys.executable, [sys.executable, "-m", "bench", *arguments])
    try:
        module.run(options)
    except (ArithmeticError, ChildProcessError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
