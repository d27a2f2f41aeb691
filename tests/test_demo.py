import pytest

from playground.demo import SESSION_S, Demo
from playground.errors import PlaygroundError
from playground.recording import Recording


@pytest.mark.slow
def test_the_demo_records_learns_and_runs(tmp_path):
    demo = Demo(tmp_path / "demo")
    demo.prepare()
    shares = []
    # As long as that of the command: what is held back has to move, too.
    recording = demo.record(shares.append)
    # 4.2 messages a second: two blocks and six lines each 5.015 s, two each second.
    assert recording.count > SESSION_S * 3.5
    assert recording.summary().duration_s == pytest.approx(SESSION_S, rel=0.2)
    assert not recording.summary().gaps
    assert shares == sorted(shares)
    model = demo.learn()
    assert set(model.outputs) == {"tower_temp", "return_temp", "power"}
    result = demo.run()
    assert result.duration_s == 86_400
    assert {kpi.name for kpi in result.kpis} == {"electricity_kwh", "travel"}
    assert Recording.open(result.recording).count == result.messages
    page = demo.report(result).read_text()
    assert result.sha256 in page
    assert "keep_the_tower_warm" in page


def test_the_demo_does_not_touch_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(PlaygroundError, match="not from an earlier demo"):
        Demo(tmp_path).prepare()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_demo_does_not_take_a_file_for_a_folder(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(PlaygroundError, match="not from an earlier demo"):
        Demo(tmp_path / "demo").prepare()
    with pytest.raises(PlaygroundError, match="cannot be written"):
        Demo(tmp_path / "demo" / "below").prepare()


def test_the_demo_may_be_repeated_in_its_folder(tmp_path):
    Demo(tmp_path).prepare()
    Demo(tmp_path).prepare()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "signals.yaml",
        "thermostat.yaml",
    ]
