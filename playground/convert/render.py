"""How a value of a table becomes the text that a device would have published.

One rule: the shortest text that reads back as the same value of the same
precision, written as Python writes it. A float keeps its point, so that 21.0
stays ``21.0`` and a reader can tell it from a counter; 20.9 in single precision
is ``20.9`` and not ``20.899999618530273``. True and False are ``true`` and
``false``. Text stays as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from playground.errors import FileFormatError


def render(column: pa.ChunkedArray | pa.Array, name: str) -> pa.Array:
    """Returns a column as payloads; null where there is no value (null or NaN).

    Args:
        column: Numbers, booleans, text or bytes.
        name: Its name, for the message.

    Raises:
        FileFormatError: A value of this type has no text of its own.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return column.cast(pa.binary())
    if (
        pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary_view(kind)
    ):
        return column.cast(pa.large_binary()).cast(pa.binary())
    if pa.types.is_null(kind):
        return column.cast(pa.binary())
    if pa.types.is_boolean(kind):
        return pc.if_else(column, b"true", b"false").cast(pa.binary())
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.string()).cast(pa.binary())
    if pa.types.is_floating(kind):
        numbers = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        encoded = numbers.dictionary_encode()
        say: Callable[[Any], str] = repr if kind == pa.float64() else str
        values = encoded.dictionary.to_numpy(zero_copy_only=False)
        # numpy's own scalars know their precision, a Python float does not.
        items = values.tolist() if kind == pa.float64() else list(values)
        texts = pa.array([say(item).encode() for item in items], pa.binary())
        return texts.take(encoded.indices)
    raise FileFormatError(
        f"Column {name!r} is of type {kind}, which has no plain text.",
        "leave it out, or convert it to numbers or text before the import",
    )


def number_text(value: float) -> str:
    """Returns the text of one number, by the rule above."""
    return repr(float(value))


def as_text_or_base64(payload: bytes) -> tuple[str, bool]:
    """Returns a payload as text, and whether it had to be put into base64."""
    try:
        return payload.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode(), True


def valid_rows(column: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns which rows are not null."""
    mask: np.ndarray[Any, np.dtype[np.bool_]] = column.is_valid().to_numpy(
        zero_copy_only=False
    )
    return mask
