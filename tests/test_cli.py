"""The command line."""

import os
import subprocess
import sys

import pytest

from fastnn import cli


def test_warmup_fills_the_cache(tmp_path):
    """A process after it compiles nothing: the folder stays as it is."""
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(tmp_path / "cache")}

    def python(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(tmp_path / "cache") in python("-m", "fastnn", "warmup", "--dtype", "float32")
    files = sorted(os.listdir(tmp_path / "cache"))
    names = {file.split("-")[0] for file in files}
    assert names == {"fill_library", "help_train", "run_block", "sweep", "sweep_parallel", "train"}
    python(
        "-c",
        "import fastnn, numpy as np\n"
        "from fastnn import parallel\nfrom fastnn.kernels import programs\n"
        "parallel.available_threads, programs.MULTIPLY_ADDS = (lambda: 2), 1  # so that a helper is used\n"
        "X, y = np.ones((700, 9), 'float32'), np.arange(700) % 3\n"
        "model = fastnn.Model([9, 40, 3], rng=0)\n"
        "model.fit(X, y, epochs=2, batch_size=7, optimizer='adam')\n"
        "model.fit(X, y, epochs=2, batch_size=100, threads=2)\n"
        "model.predict(X[:3]), model.evaluate(X, y)",
    )
    assert sorted(os.listdir(tmp_path / "cache")) == files


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit):
        cli.main([])
    assert "warmup" in capsys.readouterr().err
