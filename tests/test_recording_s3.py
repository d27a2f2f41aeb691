"""Recordings in object storage, against a local server that speaks S3."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from playground.errors import FileFormatError
from playground.message import Message
from playground.recording import Recording, RecordingWriter, sealing
from playground.recording import sealed as sealed_module

START = 1_767_225_600 * 10**9
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("moto") is None,
        reason="moto is not installed (pip install 'moto[server,s3]')",
    ),
]

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.terminate()


def uri(port: int, key: str) -> str:
    return (
        f"s3://testing:testing@lab/{key}?scheme=http&region=us-east-1"
        f"&endpoint_override=127.0.0.1:{port}"
    )


def rows() -> list[Message]:
    return [Message(START + n * 10**9, f"lab/{n % 3}", b"%d" % n) for n in range(300)]


@pytest.fixture(scope="module")
def bucket(port: int, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The port of a server that has a bucket with parts in it."""
    directory = tmp_path_factory.mktemp("s3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "ROWS", 50)
        with RecordingWriter(directory / "session") as writer:
            for index, message in enumerate(rows()):
                if index in (100, 200):
                    writer.rotate()
                writer.append(message)
    storage = pafs.S3FileSystem(
        access_key="testing",
        secret_key="testing",
        scheme="http",
        region="us-east-1",
        endpoint_override=f"127.0.0.1:{port}",
        allow_bucket_creation=True,
    )
    storage.create_dir("lab")
    for part in sorted((directory / "session").iterdir()):
        with storage.open_output_stream(f"lab/session/{part.name}") as out:
            out.write(part.read_bytes())
    return port


def test_a_directory_of_parts_in_object_storage_is_one_recording(bucket: int) -> None:
    recording = Recording.open(uri(bucket, "session"))
    assert list(recording.messages()) == rows()
    assert recording.verify() == recording.sha256
    found = recording.messages(["lab/1"], start_ns=START + 90 * 10**9)
    assert list(found) == [m for m in rows()[90:] if m.topic == "lab/1"]


def test_a_part_in_object_storage_opens_alone(bucket: int) -> None:
    recording = Recording.open(uri(bucket, "session/part-00001.parquet"))
    assert list(recording.messages()) == rows()[100:200]


def test_a_key_that_does_not_exist_is_named(bucket: int) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        Recording.open(uri(bucket, "nothing.parquet"))


def test_a_secret_in_the_uri_is_not_told_in_an_error(bucket: int) -> None:
    with pytest.raises(FileFormatError) as caught:
        Recording.open(uri(bucket, "nothing.parquet"))
    assert "testing:testing" not in str(caught.value)


def test_each_byte_is_fetched_at_most_once(
    bucket: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recording = Recording.open(uri(bucket, "session"))
    fetched: list[tuple[int, int]] = []
    original = sealed_module.GroupReader._fetch

    def spy(self: sealed_module.GroupReader, start: int, size: int) -> bytes:
        fetched.append((start, size))
        return original(self, start, size)

    monkeypatch.setattr(sealed_module.GroupReader, "_fetch", spy)
    list(recording.messages(start_ns=START, end_ns=START + 60 * 10**9))
    assert len(fetched) == len(set(fetched)) == 2 * 10
