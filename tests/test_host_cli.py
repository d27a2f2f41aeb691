"""`playground host`: one program, alone or against a recording."""

from pathlib import Path

import pytest

from playground.cli import main
from playground.clock import DEFAULT_START_NS
from playground.message import Message
from playground.recording import Recording, RecordingWriter

PROGRAMS = Path(__file__).parent / "programs"
START_NS = 1_700_000_000 * 10**9


def _playground(*words: str) -> int:
    with pytest.raises(SystemExit) as ending:
        main(["host", *words])
    return int(ending.value.code or 0)


def test_a_program_runs_alone_and_what_it_says_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    code = _playground(
        str(PROGRAMS / "thermostat.py"), "--for", "1h", "-o", str(out), "--", "19"
    )
    assert code == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "       0.000  connected: Success"
    assert printed[1] == (
        "thermostat: 1:00:00 of virtual time; messages said: 1, by others: 0"
    )
    recording = Recording.open(out)
    assert printed[2] == f"written to {out} (sha256 {recording.sha256})"
    [will] = recording.messages(kinds=["will"])
    assert (will.time_ns, will.topic) == (
        DEFAULT_START_NS + 3600 * 10**9,
        "thermostat/status",
    )
    assert recording.metadata["program"][1:] == ["19"]


def test_a_recording_is_what_the_plant_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session, out = tmp_path / "session.parquet", tmp_path / "out.parquet"
    with RecordingWriter(session, metadata={"start_ns": START_NS}) as writer:
        for second, topic, value in (
            (1, "room/temperature", 18),
            (2, "other/temperature", 18),
            (3, "room/temperature", 25),
            (60, "room/temperature", 17),
        ):
            writer.append(
                Message(
                    START_NS + second * 10**9, topic, b'{"value": %d}' % value, qos=1
                )
            )
    code = _playground(
        str(PROGRAMS / "thermostat.py"),
        *("--replay", str(session), "--inputs", "room/#", "-o", str(out)),
    )
    assert code == 0
    said = [
        ((m.time_ns - START_NS) / 1e9, m.payload)
        for m in Recording.open(out).messages(topics=["heater/#"])
    ]
    assert said == [(1.0, b"1"), (3.0, b"0"), (60.0, b"1")]
    assert "messages said: 4, by others: 3" in capsys.readouterr().out
    assert not list(Recording.open(out).messages(topics=["other/#"]))


def test_a_finding_is_printed_and_answered_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = _playground(str(PROGRAMS / "tls.py"), "--host", "elsewhere:1883")
    assert code == 1
    printed = capsys.readouterr()
    assert "tls at 0 s: refused: A hosted program may not connect to broker:8883" in (
        printed.out
    )
    assert 'add "broker:8883" to the hosts of this program' in printed.out
    assert "       0.000  Traceback (most recent call last):" in printed.err


def test_a_program_that_is_not_there_is_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _playground("nowhere.py") == 2
    assert "The program 'nowhere.py' is not in" in capsys.readouterr().err
