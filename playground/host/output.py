"""What a hosted program prints, line by line, with the instant of each line."""

from __future__ import annotations

import io
import sys

from playground.host.baton import BATON


class _Stream(io.RawIOBase):
    """Takes bytes and reports lines."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self._begun = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def write(self, data: object, /) -> int:
        raw = bytes(data)  # type: ignore[call-overload]
        *lines, self._begun = (self._begun + raw).split(b"\n")
        for line in lines:
            BATON.tell_line(self.number, line)
        return len(raw)

    def finish(self) -> None:
        """Reports a last line that has no end of line."""
        if self._begun:
            BATON.tell_line(self.number, self._begun)
            self._begun = b""


class Output:
    """Stands in for stdout and stderr."""

    def __init__(self) -> None:
        self._raw = [_Stream(1), _Stream(2)]
        out, err = (
            io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding="utf-8",
                errors="backslashreplace",
                write_through=True,
                line_buffering=True,
            )
            for raw in self._raw
        )
        sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = err  # type: ignore[misc]
        self._streams = [out, err]

    def finish(self) -> None:
        """Reports whatever is left."""
        for stream, raw in zip(self._streams, self._raw, strict=True):
            if not stream.closed:
                stream.flush()
            raw.finish()
