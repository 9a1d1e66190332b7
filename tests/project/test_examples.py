"""The example programs, run as a user runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_example(name, *arguments, cwd):
    """The finished process of examples/<name>, with every warning an error."""
    command = [sys.executable, "-W", "error", ROOT / "examples" / name, *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def number_after(label, output):
    """The number in the line that starts with `label: `."""
    found = re.search(rf"^{re.escape(label)}: ([\d.,]+)", output, re.M)
    assert found, output
    return float(found[1].replace(",", ""))


@pytest.mark.slow
def test_digits(tmp_path):
    done = run_example("digits.py", "--out", "pictures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert number_after("test accuracy", done.stdout) >= 0.95
    assert number_after("training speed", done.stdout) > 0
    rows = re.findall(r"^ +(\d+)  (\d\.\d{4})    (\d\.\d{4})   (\d\.\d{4})    (\d\.\d{4})$", done.stdout, re.M)
    assert [int(row[0]) for row in rows] == list(range(1, 31))
    first, last = ([float(value) for value in rows[i][1:]] for i in (0, -1))
    assert last[0] < first[0] and last[2] < first[2]  # both losses fall ...  # noqa: PT018
    assert min(last[1], last[3]) > 0.95  # ... and both accuracies end high
    assert "30/30" in done.stderr  # the progress bar
    written = re.findall(r"^wrote (.*)$", done.stdout, re.M)
    assert len(written) == 3
    for path in written:
        assert (tmp_path / path).stat().st_size > 1000


def mnist():
    """The folder of MNIST's files: $FASTNN_MNIST, or shared/data/mnist beside the checkout."""
    folder = Path(os.environ.get("FASTNN_MNIST") or ROOT.parent / "shared" / "data" / "mnist")
    if not list(folder.glob("train-images-idx3-ubyte*")):
        pytest.skip(f"no MNIST in {folder}: name its folder in FASTNN_MNIST")
    return folder.resolve()


@pytest.mark.parametrize(("option", "images"), [((), "50,000"), (("--all",), "60,000")], ids=["book", "all"])
def test_mnist(tmp_path, option, images):
    done = run_example("mnist.py", mnist(), "--epochs", "2", *option, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"784-30-10, init 'scaled', {images} training images" in done.stdout
    assert len(re.findall(r"^epoch +\d+: loss", done.stdout, re.M)) == 2
    assert number_after("final test accuracy", done.stdout) >= 0.90
    assert number_after("best test accuracy", done.stdout) >= number_after("final test accuracy", done.stdout)


def test_mnist_says_which_file_is_missing(tmp_path):
    done = run_example("mnist.py", tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == f"{tmp_path} holds neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(("recipe", "epochs", "least"), [("fast", 2, 0.97), ("book", 1, 0.9), ("dropout", 1, 0.96)])
def test_mnist_recipes(tmp_path, recipe, epochs, least):
    """The fast one whole, the others for an epoch."""
    done = run_example("mnist_recipes.py", mnist(), "--recipe", recipe, "--epochs", epochs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert number_after("test accuracy", done.stdout) >= least
    assert number_after("training time", done.stdout) > 0


@pytest.mark.slow
def test_regression(tmp_path):
    done = run_example("regression.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert number_after("R2 of diabetes", done.stdout) > 0.3
    assert number_after("R2 of Friedman 1", done.stdout) > 0.97
    for name in ("diabetes", "Friedman 1"):
        mine, theirs = (number_after(f"R2 of {each}", done.stdout) for each in (name, f"{name}, scikit-learn"))
        assert mine > theirs - 0.05


@pytest.mark.slow
def test_cartpole(tmp_path):
    done = run_example("cartpole.py", "--seeds", "0", "1", "--out", "cartpole.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    means = [float(mean) for mean in re.findall(r"^seed \d: mean ([\d.]+) after", done.stdout, re.M)]
    assert len(means) == 2
    assert min(means) >= 475
    assert number_after("solved", done.stdout) == 2
    assert (tmp_path / "cartpole.png").stat().st_size > 1000


@pytest.mark.slow
def test_spirals(tmp_path):
    done = run_example("spirals.py", "--out", "spirals.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert number_after("test accuracy", done.stdout) >= 0.99
    assert (tmp_path / "spirals.png").stat().st_size > 1000


@pytest.mark.slow
def test_walk_forward(tmp_path):
    done = run_example("walk_forward.py", "--series", "100", "--weeks", "2", "--out", "series.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert number_after("networks trained", done.stdout) == 200
    assert number_after("error beside the value a week ago, median of the series", done.stdout) < 0.6
    assert number_after("series that are forecast better than that", done.stdout) > 0.9
    assert (tmp_path / "series.png").stat().st_size > 1000


@pytest.mark.slow
def test_error_bars(tmp_path):
    done = run_example("error_bars.py", "--estimators", "20", "--out", "bars.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    known, gap = (number_after(f"spread {where}", done.stdout) for where in ("with samples", "in the gap"))
    assert gap > 2 * known
    assert (tmp_path / "bars.png").stat().st_size > 1000
