"""The fixtures of the pytest plugin: brokers, plants, scenarios, recordings.

What they hand out is in `playground.client`, `virtual`, `cassette`, `run`, `host`.
It is loaded in every pytest run of an environment, so it imports nothing but
pytest; what a fixture needs is imported inside it.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import date

    from playground.bus import LocalBus
    from playground.cassette import Cassette, Redact
    from playground.client import BrokerWithClients
    from playground.clock import VirtualClock
    from playground.host import Hosted
    from playground.message import Message
    from playground.plants import Plant
    from playground.record import Recorder
    from playground.recording import Recording
    from playground.replay import Replayer, ReplayReport
    from playground.run import Result
    from playground.scenario import Scenario
    from playground.virtual import VirtualHardware, VirtualPlant

KEEPING_OFF_THE_NETWORK = frozenset(
    {
        "bus",
        "clock",
        "hosted",
        "mosquitto_broker",
        "mqtt_broker",
        "mqtt_broker_session",
        "mqtt_cassette",
        "mqtt_recorder",
        "recording",
        "replay",
        "run_scenario",
        "scenario_result",
        "virtual_hardware",
        "virtual_plant",
    }
)
"""Fixtures whose tests reach nothing but this machine."""
KEEPERS = pytest.StashKey[list[Callable[[Path], object]]]()
"""What keeps the evidence of a test, if it fails."""
CHECKS = pytest.StashKey[list[Callable[[], object]]]()
"""What is looked at after a test that passed."""
FAILED = pytest.StashKey[bool]()
"""Whether a test failed; known before its fixtures end."""


def record_broker(item: pytest.Item) -> str | None:
    """Returns the broker that a test's cassette is recorded from, if one is named."""
    mark = item.get_closest_marker("cassette")
    given = item.config.getoption("--mqtt-record-broker")
    return given or (mark.kwargs.get("broker") if mark else None)


def _find(
    request: pytest.FixtureRequest, name: str | os.PathLike[str], kind: str
) -> Path:
    """Returns a file beside the test, in the root folder, or in their ``kind/``."""
    places = dict.fromkeys(
        place
        for base in (request.path.parent, request.config.rootpath, Path.cwd())
        for place in (base / name, base / kind / name)
    )
    for place in places:
        if place.exists():
            return place
    from playground.errors import PlaygroundError, closest

    known = [
        f.name
        for place in places
        if place.parent.is_dir()
        for f in place.parent.iterdir()
    ]
    raise PlaygroundError(
        f"There is no file {str(name)!r}.{closest(Path(name).name, known)}",
        "it was looked for as " + ", ".join(str(place) for place in places),
    )


def _keeper(item: Any, keeper: Callable[[Path], object]) -> None:
    item.stash.setdefault(KEEPERS, []).append(keeper)


def _check(item: Any, check: Callable[[], object]) -> None:
    item.stash.setdefault(CHECKS, []).append(check)


# -- time and seed ---------------------------------------------------------------


@pytest.fixture
def seed() -> int:
    """The seed of everything random in a test; see the mark ``seeds``."""
    return 0


@pytest.fixture
def playground_today() -> date:
    """The day by which the age of recordings is told; override it in tests of that."""
    from datetime import UTC, datetime

    return datetime.now(UTC).date()


@pytest.fixture
def clock() -> VirtualClock:
    """A clock in virtual time: ``clock.run(until=3600)`` takes no time."""
    from playground.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def bus(clock: VirtualClock) -> LocalBus:
    """An MQTT bus in memory, in virtual time."""
    from playground.bus import LocalBus

    return LocalBus(clock)


# -- brokers ---------------------------------------------------------------------


@pytest.fixture
def mqtt_broker() -> Iterator[BrokerWithClients]:
    """A broker on loopback and a free port; ``.url``, ``.client()``."""
    from playground.client import BrokerWithClients

    with BrokerWithClients() as broker:
        yield broker


@pytest.fixture(scope="session")
def mqtt_broker_session() -> Iterator[BrokerWithClients]:
    """The same for a whole session; what is retained stays for the next test."""
    from playground.client import BrokerWithClients

    with BrokerWithClients() as broker:
        yield broker


@pytest.fixture
def mosquitto_broker() -> Iterator[BrokerWithClients]:
    """A mosquitto on loopback and a free port; skips where it is not installed."""
    from playground.broker import find_mosquitto
    from playground.client import BrokerWithClients

    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    with BrokerWithClients(backend="mosquitto") as broker:
        yield broker


# -- plants ----------------------------------------------------------------------


@pytest.fixture
def virtual_plant(
    request: pytest.FixtureRequest, bus: LocalBus, seed: int, tmp_path: Path
) -> Callable[..., VirtualPlant]:
    """Makes a plant on the local bus, in virtual time.

    ``virtual_plant("lab_rig", start="20 degC", seed=3)``: name of a built-in plant,
    ``module:Class``, folder of a learned model, or a plant; then its parameters.
    """
    from playground.evidence import keeper_of_recording
    from playground.virtual import VirtualPlant, make_plant

    own_seed = seed
    made: list[VirtualPlant] = []

    def make(
        spec: str | Plant | Callable[..., Plant],
        *,
        seed: int | None = None,
        **parameters: Any,
    ) -> VirtualPlant:
        number = len(made) + 1
        plant = VirtualPlant(
            make_plant(spec, **parameters),
            bus=bus,
            seed=own_seed if seed is None else seed,
            name="plant" if number == 1 else f"plant-{number}",
            folder=tmp_path,
        )
        made.append(plant)
        _keeper(request.node, keeper_of_recording(lambda: plant.recording, plant.name))
        _check(request.node, plant.warn_of_departures)
        return plant

    return make


@pytest.fixture
def virtual_hardware(
    request: pytest.FixtureRequest, seed: int, tmp_path: Path
) -> Iterator[Callable[..., VirtualHardware]]:
    """Makes a plant on a real broker, in real time: ``virtual_hardware("lab_rig")``.

    As `virtual_plant`, with ``speed=`` (seconds of the plant in one second) and
    ``url=`` (by default of the fixture ``mqtt_broker``).
    """
    from playground.evidence import keeper_of_recording
    from playground.virtual import VirtualHardware, make_plant

    own_seed = seed
    made: list[VirtualHardware] = []
    # Asked for now, so that it outlives the plants.
    broker = request.getfixturevalue("mqtt_broker")

    def make(
        spec: str | Plant | Callable[..., Plant],
        *,
        speed: float = 1.0,
        seed: int | None = None,
        url: str | None = None,
        **parameters: Any,
    ) -> VirtualHardware:
        number = len(made) + 1
        plant = VirtualHardware(
            make_plant(spec, **parameters),
            url=broker.url if url is None else url,
            speed=speed,
            seed=own_seed if seed is None else seed,
            name="plant" if number == 1 else f"plant-{number}",
            folder=tmp_path,
        )
        made.append(plant)
        _keeper(request.node, keeper_of_recording(lambda: plant.recording, plant.name))
        _check(request.node, plant.warn_of_departures)
        return plant

    with contextlib.ExitStack() as stack:
        yield make
        for plant in made:
            stack.callback(plant.stop)


# -- scenarios and programs ------------------------------------------------------


@pytest.fixture
def run_scenario(
    request: pytest.FixtureRequest, seed: int, tmp_path: Path
) -> Callable[..., Result]:
    """Runs a scenario: ``run_scenario("valve.yaml", setpoint="50 degC")``.

    A file beside the test, in ``scenarios/`` or below the root folder; a mapping; or
    a `Scenario`. Without one, that of the mark. Keywords change its values: keys of
    the scenario and parameters of its parts.
    """
    from playground.cells import changed, read
    from playground.evidence import keeper_of_run
    from playground.run import run
    from playground.scenario import Scenario

    mark = request.node.get_closest_marker("scenario")
    seeded = {"seed": seed} if request.node.get_closest_marker("seeds") else {}
    count = 0

    def run_one(
        source: str | os.PathLike[str] | Mapping[str, Any] | Scenario | None = None,
        **changes: Any,
    ) -> Result:
        nonlocal count
        count += 1
        if source is None:
            if mark is None or not mark.args:
                from playground.errors import PlaygroundError

                raise PlaygroundError(
                    "run_scenario() names no scenario, and the test has no mark.",
                    "name a file, or mark the test with "
                    "@pytest.mark.scenario('valve.yaml')",
                )
            source = mark.args[0]
            changes = {**mark.kwargs, **changes}
        changes = {**seeded, **changes}
        if isinstance(source, Scenario):
            scenario = source
        elif isinstance(source, str) or hasattr(source, "__fspath__"):
            scenario = read(_find(request, source, "scenarios"))
        else:
            scenario = read(source, folder=request.path.parent)
        scenario = changed(scenario, changes)
        name = "run" if count == 1 else f"run-{count}"
        result = run(scenario, out=tmp_path / name)
        _keeper(
            request.node,
            keeper_of_run(
                result, scenario, name, f"pytest {shlex.quote(request.node.nodeid)}"
            ),
        )
        return result

    return run_one


@pytest.fixture
def scenario_result(run_scenario: Callable[..., Result]) -> Result:
    """The result of the scenario that the mark ``scenario`` names."""
    return run_scenario()


@pytest.fixture
def hosted(
    request: pytest.FixtureRequest, bus: LocalBus, clock: VirtualClock, seed: int
) -> Iterator[Callable[..., Hosted]]:
    """Runs an unmodified MQTT program in virtual time: ``hosted("control.py")``.

    On the same bus as ``virtual_plant``; looked for beside the test and in the root
    folder. Takes what `playground.host.Hosted` takes.
    """
    from playground.host import Hosted

    own_seed = seed
    made: list[Hosted] = []

    def host(
        program: str | os.PathLike[str] | Sequence[str],
        *arguments: str,
        seed: int | str | None = None,
        **options: Any,
    ) -> Hosted:
        words = [program] if isinstance(program, str) else program
        command: Any = words
        if not isinstance(words, list):
            command = [words] if hasattr(words, "__fspath__") else list(words)
        first = str(command[0])
        if first.endswith(".py"):
            command = [str(_find(request, first, "strategies")), *command[1:]]
        one = Hosted(
            [*command, *arguments],
            bus,
            clock,
            seed=own_seed if seed is None else seed,
            **options,
        )
        made.append(one)
        return one

    yield host
    for one in made:
        one.close()


# -- recordings ------------------------------------------------------------------


@pytest.fixture
def recording(request: pytest.FixtureRequest, playground_today: date) -> Recording:
    """The recording that the mark ``recording`` names."""
    from playground.cassette import check_age
    from playground.errors import PlaygroundError
    from playground.recording import Recording

    mark = request.node.get_closest_marker("recording")
    if mark is None or not mark.args:
        raise PlaygroundError(
            "The test takes 'recording' but names none.",
            "mark it with @pytest.mark.recording('lab.parquet')",
        )
    path = _find(request, mark.args[0], "recordings")
    opened = Recording.open(path)
    max_age = mark.kwargs.get("max_age") or request.config.getini("playground_max_age")
    if max_age:
        check_age(
            opened,
            max_age,
            today=playground_today,
            name=str(mark.args[0]),
            expired=mark.kwargs.get("expired", "fail"),
            again=f"playground record {mark.args[0]} --broker URL",
        )
    return opened


class Replays:
    """Plays recordings: called, on the local bus; `to` a broker, at once."""

    def __init__(
        self, request: pytest.FixtureRequest, bus: LocalBus, clock: VirtualClock
    ) -> None:
        self._request = request
        self._bus = bus
        self._clock = clock

    def __call__(
        self, source: str | os.PathLike[str] | Recording, **options: Any
    ) -> Replayer:
        """Plays on the local bus, from this instant of virtual time on.

        Args:
            source: A recording or its file: beside the test, in ``recordings/`` or
                below the root folder.
            options: As of `playground.replay.Replayer`: ``topics``, ``speed`` …
        """
        from playground.replay import Replayer

        replayer = Replayer(self._opened(source), self._bus, **options)
        replayer.process(self._clock)
        return replayer

    def to(
        self, url: str, source: str | os.PathLike[str] | Recording, **options: Any
    ) -> ReplayReport:
        """Plays to a broker, to the end, as fast as it goes.

        Args:
            url: The broker.
            source: As above.
            options: As of `playground.replay.Replayer`; ``speed=1.0`` keeps the
                recorded pace.
        """
        from playground.mqtt import MqttBus
        from playground.replay import MAX, Replayer

        options.setdefault("speed", MAX)
        return Replayer(self._opened(source), MqttBus(url), **options).run()

    def _opened(self, source: Any) -> Recording:
        from playground.recording import Recording

        if isinstance(source, Recording):
            return source
        return Recording.open(_find(self._request, source, "recordings"))


@pytest.fixture
def replay(
    request: pytest.FixtureRequest, bus: LocalBus, clock: VirtualClock
) -> Replays:
    """Plays a recording: ``replay("lab.parquet")`` on the local bus in virtual time.

    ``replay.to(mqtt_broker.url, "lab.parquet")`` plays it to a broker.
    """
    return Replays(request, bus, clock)


@pytest.fixture
def mqtt_recorder(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Recorder]]:
    """Records a broker: ``mqtt_recorder(mqtt_broker.url, "lab/#")``.

    It records from then on; ``.stop()`` returns the recording.
    """
    from playground.evidence import keeper_of_recording
    from playground.record import Recorder

    made: list[Recorder] = []

    def record(source: Any = None, *filters: str, **options: Any) -> Recorder:
        if source is None:
            source = request.getfixturevalue("mqtt_broker")
        number = len(made) + 1
        name = "recorded" if number == 1 else f"recorded-{number}"
        options.setdefault("sync_s", None)
        recorder = Recorder(
            source, tmp_path / f"{name}.parquet", filters=filters, **options
        ).start()
        made.append(recorder)
        _keeper(request.node, keeper_of_recording(recorder.stop, name))
        return recorder

    yield record
    for recorder in made:
        recorder.stop()


@pytest.fixture
def mqtt_redact() -> Callable[[Message], Message | None] | None:
    """Takes secrets out of messages before a cassette is written; override it.

    Returns a function of a message: the message as it may be written, or None to
    leave it out.
    """
    return None


@pytest.fixture
def mqtt_cassette(
    request: pytest.FixtureRequest, mqtt_redact: Redact | None, playground_today: date
) -> Iterator[Cassette]:
    """A broker that answers as the real one did when it was recorded.

    The code under test connects to ``mqtt_cassette.url``. The cassette is
    ``cassettes/<test module>/<test>.parquet`` beside the test, unless the mark
    ``cassette`` names another.
    """
    from playground.cassette import Cassette, check_age, redaction

    node, config = request.node, request.config
    mark = node.get_closest_marker("cassette")
    given = dict(mark.kwargs) if mark else {}
    name = (mark.args[0] if mark and mark.args else None) or given.get("name")
    folder = request.path.parent / "cassettes"
    if name is None:
        safe = "".join(c if c.isalnum() or c in "-_=.," else "-" for c in node.name)
        path = folder / request.path.stem / f"{safe.strip('-')}.parquet"
    else:
        path = folder / f"{str(name).removesuffix('.parquet')}.parquet"
    mode = config.getoption("--mqtt-record-mode")
    broker = record_broker(node)
    again = (
        f"pytest {shlex.quote(node.nodeid)} --mqtt-record-mode rewrite "
        f"--mqtt-record-broker {broker or 'mqtt://HOST'}"
    )
    hide = mqtt_redact
    if given.get("redact"):
        hide = redaction(given["redact"])
        if mqtt_redact is not None:
            first, second = hide, mqtt_redact

            def both(message: Message) -> Message | None:
                once = first(message)
                return None if once is None else second(once)

            hide = both
    cassette = Cassette(
        path,
        mode=mode,
        broker=broker,
        redact=hide,
        payloads=bool(given.get("payloads", False)),
        command=again,
    )
    max_age = given.get("max_age") or config.getini("playground_max_age")
    if max_age and not cassette.recording_now:
        check_age(
            cassette.recording,
            max_age,
            today=playground_today,
            name=path.name,
            expired=given.get("expired", "fail"),
            again=again,
        )
    cassette.start()
    _check(node, cassette.check)
    try:
        yield cassette
    finally:
        cassette.stop(passed=not node.stash.get(FAILED, False))
