"""function: signatures as text, and what an operation holds of its arguments."""

import re

import numpy as np
import pytest

from fastnn.kernels.vector.function import MAX_ARGUMENTS, OPERATION_BYTES, Operand, Signature, float_bits
from fastnn.kernels.vector.matrix import Matrix, Symbol


def test_a_signature_says_what_it_says():
    signature = Signature.of("tiles k=A.cols A:r[m,k] A.row_stride scale:float C:rw[m,n] X:w*[1,n] gather:operation")
    kinds = [(a.name, a.kind, a.attribute) for a in signature.arguments]
    assert kinds == [
        ("tiles", "int", ""),
        ("A", "attribute", "cols"),
        ("A", "address", ""),
        ("A", "attribute", "row_stride"),
        ("scale", "float", ""),
        ("C", "address", ""),
        ("X", "address", ""),
        ("gather", "operation", ""),
    ]
    assert signature.operands == {
        "A": Operand("r", False, ("m", "k"), False),
        "C": Operand("rw", False, ("m", "n"), False),
        "X": Operand("w", True, ("1", "n"), False),
    }
    assert signature.names == {"tiles", "A", "scale", "C", "X", "gather"}


def test_a_matrix_has_any_strides_where_its_col_stride_is_an_argument():
    signature = Signature.of("A:r[m,k] A.col_stride B:r[k,n]")
    assert signature.operands["A"].any_strides
    assert not signature.operands["B"].any_strides


@pytest.mark.parametrize("token", ["A:r[", "=A", "A:r[m,k", "k=", "A.b.c", "-"])
def test_what_is_no_argument(token):
    with pytest.raises(ValueError, match=re.escape(f"{token!r} is no argument")):
        Signature.of(f"n {token}")


def test_an_operation_holds_so_many_arguments():
    names = [f"a{i}" for i in range(MAX_ARGUMENTS + 1)]
    assert len(Signature.of(" ".join(names[:-1])).arguments) == MAX_ARGUMENTS
    with pytest.raises(ValueError, match=rf"holds {MAX_ARGUMENTS} arguments, not {MAX_ARGUMENTS + 1}"):
        Signature.of(" ".join(names))
    assert OPERATION_BYTES == 8 * (1 + MAX_ARGUMENTS)


def test_the_values_of_an_operation():
    """Addresses, what matrices say of themselves, bits of a float, and the distance to another operation."""
    signature = Signature.of("n lines=x.lines x:r[1,k] y:r[1,k] y.row_stride scale:float gather:operation")
    x = Matrix.row_major(640, 1, 20, 128, "float32")
    y = Matrix.row_major(Symbol("samples", 8), 1, 20, 80, "float32")
    given = {"n": Symbol("remaining"), "x": x, "y": y, "scale": -0.5, "gather": 3}
    values = signature.values(given, 5)
    half = int(np.array([-0.5]).view(np.int64)[0])
    assert values == [Symbol("remaining"), 2, 640, Symbol("samples", 8), 80, half, -2 * OPERATION_BYTES]


def test_bits_of_a_float():
    for x in (0.0, -0.0, 1.0, 1 / 255, -1e300, float("inf")):
        assert np.array([float_bits(x)]).view(np.float64)[0].tobytes() == np.float64(x).tobytes()
