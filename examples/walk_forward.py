"""1,000 series walked forward: a network for each, trained anew each week on all that is known by then.

    python examples/walk_forward.py [--series N] [--weeks N] [--out FILE.png]

Each series is a year of days, made here: a swing of its own that feeds on itself, a weekly pattern, noise. A network
reads the last 14 days and gives the next one. At the start of each of the last weeks `fastnn.fit_groups` trains a
network for each series on the days before, and these forecast the week, a day ahead each. The error is beside that of
the value of a week ago. --out draws some series and the errors of all (extra `plots`).
"""

import argparse
import time

import numpy as np

import fastnn

DAYS, WEEK, LAGS = 365, 7, 14
FIT = {"by": "series", "target": "next day", "layers": [8], "epochs": 40, "optimizer": fastnn.Adam(0.01), "rng": 0}


def make_series(n, rng):
    """(n, DAYS): y = level + swing + weekly pattern + noise, where the swing follows its last two days."""
    level, pattern = rng.uniform(10, 1000, (n, 1)), rng.normal(0, 1, (n, WEEK))
    gain, pull = rng.uniform(1.2, 1.8, n), rng.uniform(0.5, 0.9, n)
    swing = np.zeros((n, DAYS + 50))
    for t in range(2, DAYS + 50):
        kick = rng.normal(0, 0.2, n)
        swing[:, t] = 2 * np.tanh(gain * swing[:, t - 1] / 2) - pull * swing[:, t - 2] + kick
    days = np.arange(DAYS)
    noise = rng.normal(0, 0.1, (n, DAYS))
    return level * (1 + 0.1 * (swing[:, 50:] + pattern[:, days % WEEK] + noise))


def rows(series, first, stop):
    """The rows of a frame for the days from `first` to `stop`: what came before each, and the day itself."""
    parts = [fastnn.windows(each[first - LAGS : stop], lags=LAGS) for each in series]
    X, y = np.concatenate([X for X, _ in parts]), np.concatenate([y for _, y in parts])
    columns = {f"{LAGS - j} days ago": X[:, j] for j in range(LAGS)}
    return {"series": np.repeat(np.arange(len(series)), stop - first), **columns, "next day": y[:, 0]}


def walk(series, weeks):
    """(the forecasts (n, days) of the last weeks, seconds of training)."""
    found, seconds = [], 0.0
    for first in range(DAYS - weeks * WEEK, DAYS, WEEK):
        known, ahead = rows(series, LAGS, first), rows(series, first, first + WEEK)
        start = time.perf_counter()
        models = fastnn.fit_groups(known, **FIT)
        seconds += time.perf_counter() - start
        found.append(models.predict(ahead).reshape(len(series), WEEK))
        print(f"day {first}: {models!r}", flush=True)
    return np.concatenate(found, axis=1), seconds


def draw(path, series, forecasts, ratios):
    """Four series with their forecasts, and the errors of all."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown, ahead = np.arange(DAYS - 60, DAYS), np.arange(DAYS - forecasts.shape[1], DAYS)
    figure, axes = plt.subplots(5, 1, figsize=(8, 10), layout="constrained")
    for i, ax in enumerate(axes[:4]):
        ax.plot(shown, series[i, shown], "o-", color="0.6", markersize=3, label="series")
        ax.plot(ahead, forecasts[i], color="C0", label="forecast of a day ahead")
        ax.set_ylabel(f"series {i}")
    axes[0].legend(loc="upper left", ncols=2)
    axes[3].set_xlabel("day")
    axes[4].hist(ratios, bins=50)
    axes[4].axvline(1, color="0.4", linestyle="--")
    axes[4].set_xlabel("error of the forecasts / error of the value a week ago")
    axes[4].set_ylabel("series")
    figure.savefig(path)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--weeks", type=int, default=4)
    parser.add_argument("--out", metavar="FILE.png")
    options = parser.parse_args()
    series = make_series(options.series, np.random.default_rng(0))
    forecasts, seconds = walk(series, options.weeks)
    truth = series[:, -forecasts.shape[1] :]
    week_ago = series[:, -forecasts.shape[1] - WEEK : -WEEK]
    ratios = np.abs(forecasts - truth).mean(axis=1) / np.abs(week_ago - truth).mean(axis=1)
    networks = len(series) * options.weeks
    print(f"networks trained: {networks:,} in {seconds:.2f} s, {networks / seconds:,.0f} a second")
    print(f"error beside the value a week ago, median of the series: {np.median(ratios):.3f}")
    print(f"series that are forecast better than that: {(ratios < 1).mean():.3f}")
    if options.out:
        draw(options.out, series, forecasts, ratios)


if __name__ == "__main__":
    main()
