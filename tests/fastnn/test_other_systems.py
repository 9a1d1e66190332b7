"""What the docs say of other systems: polars, DuckDB, Ray Data, Spark and Dask, where they are installed."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")

import pandas as pd

from fastnn import Dense, Model, Predictor

rng = np.random.default_rng(0)
FRAME = pd.DataFrame({"id": np.arange(40), "a": rng.normal(size=40), "b": rng.normal(size=40)})
MODEL = Model([2, Dense(1, "identity")], rng=0)
MODEL.fit(FRAME[["a", "b"]], np.ones((40, 1)), epochs=1, batch_size=10)
EXPECTED = MODEL.predict(FRAME[["a", "b"]])[:, 0]


@pytest.fixture
def parquet(tmp_path):
    """(a file of the rows, a predictor of a file)."""
    MODEL.save(tmp_path / "net.safetensors")
    FRAME.to_parquet(tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet"), Predictor(tmp_path / "net.safetensors")


def test_polars(parquet):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    path, predict = parquet
    lazy = polars.scan_parquet(path)
    schema = {**lazy.collect_schema(), "prediction": polars.Float32}
    np.testing.assert_array_equal(lazy.map_batches(predict, schema=schema).collect()["prediction"], EXPECTED)
    column = polars.map_batches([polars.col("a"), polars.col("b")], predict, return_dtype=polars.Float32)
    np.testing.assert_array_equal(lazy.with_columns(column.alias("p")).collect()["p"], EXPECTED)


def test_duckdb(parquet):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    path, predict = parquet
    connection = duckdb.connect()
    connection.create_function("predict", predict, ["DOUBLE", "DOUBLE"], "FLOAT", type="arrow")
    found = connection.sql(f"select predict(a, b) as p from '{path}' order by id").df()
    np.testing.assert_array_equal(found["p"], EXPECTED)


def run_alone(code):
    """Run a program, whose processes end with it; gives the last line that it prints, if any."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return (done.stdout.splitlines() or [""])[-1]


@pytest.mark.slow
@pytest.mark.every
def test_ray_data(parquet):
    pytest.importorskip("ray", reason="Ray is not installed")
    path, predict = parquet
    code = f"""
import ray, sys, pickle
predict = pickle.loads({pickle.dumps(predict)!r})
ray.init("local", include_dashboard=False, log_to_driver=False, num_cpus=2)
found = ray.data.read_parquet({path!r}).map_batches(predict, batch_format="pyarrow").to_pandas().sort_values("id")
found.to_parquet({path + ".out"!r})
"""
    run_alone(code)
    np.testing.assert_array_equal(pd.read_parquet(path + ".out")["prediction"], EXPECTED)


@pytest.mark.slow
def test_spark(parquet):
    pytest.importorskip("pyspark", reason="PySpark is not installed")
    path, predict = parquet
    code = f"""
import os, pandas, pickle, sys
os.environ["PYSPARK_PYTHON"] = sys.executable
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf
predict = pickle.loads({pickle.dumps(predict)!r})
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
frame = spark.read.parquet({path!r})
schema = "id long, a double, b double, prediction float"
found = frame.mapInPandas(lambda blocks: map(predict, blocks), schema).toPandas().sort_values("id")
def of_columns(a: pandas.Series, b: pandas.Series) -> pandas.Series:
    return predict(a, b)
other = frame.withColumn("p", pandas_udf(of_columns, "float")("a", "b")).toPandas().sort_values("id")
found.assign(p=other["p"].to_numpy()).to_parquet({path + ".out"!r})
spark.stop()
"""
    run_alone(code)
    found = pd.read_parquet(path + ".out")
    np.testing.assert_array_equal(found["prediction"], EXPECTED)
    np.testing.assert_array_equal(found["p"], EXPECTED)


@pytest.mark.slow
def test_scikit_learns_search_on_dask():
    """Its scores are those of a search in this process."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    code = """
import joblib, numpy as np, fastnn
from sklearn.model_selection import GridSearchCV
def search():
    X, y = fastnn.load_digits()
    estimator = fastnn.MLPClassifier(hidden_layer_sizes=8, tol=0.1, random_state=0)
    return GridSearchCV(estimator, {"alpha": [1e-4, 1e-2]}, cv=3).fit(X[:300], y[:300]).cv_results_["mean_test_score"]
if __name__ == "__main__":
    from dask.distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            there = search()
    print(np.array_equal(there, search()))
"""
    assert run_alone(code) == "True"


@pytest.mark.slow
def test_a_model_for_each_group_on_spark():
    pytest.importorskip("pyspark", reason="PySpark is not installed")
    code = """
import os, sys, numpy as np, pandas, fastnn
os.environ["PYSPARK_PYTHON"] = sys.executable
from pyspark.sql import SparkSession
def trained(group: pandas.DataFrame) -> pandas.DataFrame:
    import fastnn
    regressor = fastnn.MLPRegressor(hidden_layer_sizes=4, max_iter=50, tol=0.1, random_state=0)
    regressor.fit(group[["t"]], group["y"])
    return group.assign(prediction=regressor.predict(group[["t"]]))
t = np.tile(np.linspace(0, 1, 30), 2)
frame = pandas.DataFrame({"shop": np.repeat([1, 2], 30), "t": t, "y": np.sin(3 * t)})
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
schema = "shop long, t double, y double, prediction double"
found = spark.createDataFrame(frame).groupby("shop").applyInPandas(trained, schema).toPandas()
found = found.sort_values(["shop", "t"])
here = pandas.concat([trained(group) for _, group in frame.groupby("shop")])
print(np.array_equal(found["prediction"], here["prediction"]))
spark.stop()
"""
    assert run_alone(code) == "True"
