"""What a conversion writes: a sealed recording, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playground.errors import PlaygroundError
from playground.message import Message
from playground.recording import SCHEMA, Recording
from playground.recording.columns import encode_names, to_batch
from playground.recording.sealing import SealWriter, exists

_PENDING = 16_384


class Output:
    """A recording in the making; a context manager.

    Rows are taken as messages or as columns. Nothing stands under the target's
    name before `finish`; after an exception nothing is left.

    Args:
        target: Name of the recording to write.
        overwrite: It may replace a file.
    """

    def __init__(self, target: Path | str, *, overwrite: bool = False) -> None:
        self.target = Path(target)
        if self.target.exists() and not overwrite:
            raise exists(self.target)
        self._overwrite = overwrite
        self._seal = SealWriter(self.target)
        self._pending: list[Message] = []
        self._next_seq = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def append(self, message: Message) -> None:
        """Takes one message."""
        self._pending.append(message)
        if len(self._pending) >= _PENDING:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._pending:
            messages, self._pending = self._pending, []
            self.write(to_batch(messages, range(len(messages))))

    def write(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Takes rows with the columns of a recording; numbers them anew."""
        self._hand_over()
        for batch in rows.to_batches() if isinstance(rows, pa.Table) else (rows,):
            if not batch.num_rows:
                continue
            times = batch.column("time").cast(pa.int64()).to_numpy()
            first, last = int(times.min()), int(times.max())
            self.first_ns = min(
                first, first if self.first_ns is None else self.first_ns
            )
            self.last_ns = max(last, last if self.last_ns is None else self.last_ns)
            seqs = np.arange(self._next_seq, self._next_seq + batch.num_rows)
            self._next_seq += batch.num_rows
            arrays = list(batch.columns)
            arrays[SCHEMA.get_field_index("seq")] = pa.array(seqs, pa.int64())
            self._seal.write(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))

    @property
    def count(self) -> int:
        """Rows taken so far."""
        return self._next_seq + len(self._pending)

    def finish(self, metadata: Mapping[str, Any]) -> Recording:
        """Completes the file and gives it its name.

        Args:
            metadata: About the session; its start and end are added if missing.
        """
        self._hand_over()
        complete = dict(metadata)
        if self.first_ns is not None:
            complete.setdefault("start_ns", self.first_ns)
            complete.setdefault("end_ns", self.last_ns)
        complete["next_seq"] = self._next_seq
        sealed = self._seal.finish(complete)
        self._seal.publish(overwrite=self._overwrite)
        sealed.path = self.target.as_posix()
        return Recording([sealed])

    def __enter__(self) -> Self:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlaygroundError(
                f"{self.target} cannot be written: {error.strerror or error}.",
                "choose another place, or look after its permissions",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._seal.discard()


def to_rows(
    time_ns: npt.NDArray[np.int64],
    topics: pa.Array,
    payloads: pa.Array,
    *,
    qos: int | Sequence[int] | npt.NDArray[np.uint8] = 0,
    retain: bool | npt.NDArray[np.bool_] = False,
    more: Mapping[str, pa.Array] | None = None,
) -> pa.RecordBatch:
    """Returns columns as rows of a recording, numbered from 0.

    Args:
        time_ns: Nanoseconds since 1970 UTC.
        topics: Strings, or dictionary-encoded strings.
        payloads: Binary, no nulls.
        qos: One for all, or one each.
        retain: One for all, or one each.
        more: Further columns (``dup``, ``client``, ``properties``, ``kind``).
    """
    count = len(time_ns)
    given = dict(more or {})
    columns = {
        "time": pa.array(time_ns).cast(SCHEMA.field("time").type),
        "seq": pa.array(np.arange(count, dtype=np.int64)),
        "kind": pa.array(["publish"] * count, pa.string()),
        "topic": topics,
        "payload": payloads,
        "qos": pa.array(np.broadcast_to(np.asarray(qos, np.uint8), count)),
        "retain": pa.array(np.broadcast_to(np.asarray(retain, np.bool_), count)),
        "dup": pa.array(np.zeros(count, np.bool_)),
        "client": pa.nulls(count, pa.string()),
        "properties": pa.nulls(count, pa.string()),
    }
    columns.update(given)
    arrays = []
    for field in SCHEMA:
        column = columns[field.name]
        named = pa.types.is_dictionary(field.type)
        if named and not pa.types.is_dictionary(column.type):
            column = encode_names(column.cast(pa.string()))
        arrays.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
