"""The pytest plugin: options, marks, scenario files as tests, hooks around a test.

It is loaded in every pytest run of an environment, so it imports nothing but
pytest and `playground.fixtures`, which keeps to the same rule; what a hook needs is
imported inside it.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from playground import fixtures
from playground.fixtures import CHECKS, FAILED, KEEPERS, record_broker

MARKS = (
    "scenario(file, **changes): the scenario that run_scenario() and "
    "scenario_result run",
    "recording(file, max_age=None, expired='fail'): the recording that the fixture "
    "'recording' opens; older than max_age ('180d') it fails, or warns",
    "seeds(n): run the test with the seeds 0, 1, … n-1 (n may also be a list)",
    "cassette(name=None, broker=None, redact=(), payloads=False, max_age=None, "
    "expired='fail'): the session that mqtt_cassette plays",
    "allow_hosts(*hosts): let a test reach more than this machine",
)
SCENARIO_FILES = (".scenario.yaml", ".scenario.yml")
_GUARD = pytest.StashKey[contextlib.ExitStack]()


# -- options ---------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options and settings of the plugin."""
    group = parser.getgroup("playground", "virtual hardware (mqtt-playground)")
    group.addoption(
        "--playground-artifacts",
        metavar="DIR",
        default=None,
        help="keep recordings and reports of failed tests here "
        "[.playground/failures below the root folder]",
    )
    group.addoption(
        "--mqtt-record-mode",
        choices=("none", "once", "new", "all", "rewrite"),
        default="none",
        help="how cassettes are made: none (only play), once (record what is "
        "missing), new (play, record what is new), all (record always), rewrite "
        "(remove, then record) [none]",
    )
    group.addoption(
        "--mqtt-record-broker",
        metavar="URL",
        default=None,
        help="the broker that cassettes are recorded from",
    )
    parser.addini(
        "playground_allow_hosts",
        "hosts that every test may reach: names, addresses, networks",
        type="args",
        default=[],
    )
    parser.addini(
        "playground_artifacts_kept",
        "of how many failed tests the evidence is kept",
        default="50",
    )
    parser.addini(
        "playground_max_age",
        "age at which recordings and cassettes expire that say nothing else ('180d')",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the fixtures and the marks."""
    config.pluginmanager.register(fixtures, fixtures.__name__)
    for line in MARKS:
        config.addinivalue_line("markers", line)


# -- collection ------------------------------------------------------------------


def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Collects scenario files; others only if they are named and look like one."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not file_path.name.endswith(SCENARIO_FILES) and not (
        parent.session.isinitpath(file_path) and _is_scenario(file_path)
    ):
        return None
    from playground.collection import ScenarioFile

    return ScenarioFile.from_parent(parent, path=file_path)


def _is_scenario(path: Path) -> bool:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    keys = {line.partition(":")[0] for line in lines}
    return {"plant", "duration"} <= keys


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test once for each seed of its mark."""
    mark = metafunc.definition.get_closest_marker("seeds")
    if mark is None:
        return
    if "seed" not in metafunc.fixturenames:
        pytest.fail(
            f"{metafunc.definition.nodeid} is marked with seeds but uses no seed.\n"
            "  fix: take the fixture 'seed', or one that is seeded: virtual_plant, "
            "virtual_hardware, run_scenario, hosted",
            pytrace=False,
        )
    given = mark.args[0] if mark.args else 10
    seeds = range(given) if isinstance(given, int) else list(given)
    metafunc.parametrize("seed", seeds, ids=[f"seed={number}" for number in seeds])


# -- around a test ---------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Keeps tests with these fixtures off the network, from before their fixtures."""
    if hasattr(item, "kept_at") or any(
        _keeps_off(definitions[-1]) for definitions in _definitions(item)
    ):
        _keep_off(item)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> None:
    """Does so too for a fixture that a test asks for by ``getfixturevalue``."""
    # Of a fixture of the session, the item is the test that asked first.
    item = getattr(request, "_pyfuncitem", request.node)
    if isinstance(item, pytest.Item) and _keeps_off(fixturedef):
        _keep_off(item)


def _definitions(item: pytest.Item) -> list[Any]:
    # pytest has no public name for where a fixture of a test comes from.
    info = getattr(item, "_fixtureinfo", None)
    found = {} if info is None else info.name2fixturedefs
    return [definitions for definitions in found.values() if definitions]


def _keeps_off(definition: pytest.FixtureDef[Any]) -> bool:
    """Says whether a fixture is one of ours, not a namesake of the user's own."""
    return (
        definition.argname in fixtures.KEEPING_OFF_THE_NETWORK
        and definition.func.__module__ == fixtures.__name__
    )


def _keep_off(item: pytest.Item) -> None:
    if _GUARD in item.stash:
        return
    from playground.loopback import only_loopback

    guard = contextlib.ExitStack()
    guard.enter_context(only_loopback(_allowed_hosts(item)))
    item.stash[_GUARD] = guard


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Gives the network back after the last fixture is gone."""
    try:
        return (yield)
    finally:
        guard = item.stash.get(_GUARD, None)
        if guard is not None:
            del item.stash[_GUARD]
            guard.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Looks, after a test that passed, at what only shows then."""
    answer = yield
    for check in item.stash.get(CHECKS, ()):
        check()
    return answer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps the evidence of a test that failed, and says where."""
    failed = call.excinfo is not None and not call.excinfo.errisinstance(
        (pytest.skip.Exception, KeyboardInterrupt)
    )
    told = _keep_evidence(item) if failed and call.when == "call" else []
    report = yield
    if not report.failed:
        return report
    item.stash[FAILED] = True
    if call.when == "setup" and call.excinfo is not None:
        from playground.errors import PlaygroundError

        # A user's mistake, not a fault of the fixture: no traceback.
        if isinstance(call.excinfo.value, PlaygroundError):
            report.longrepr = str(call.excinfo.value)
    seed = _seed_of(item)
    if seed is not None and call.when == "call":
        told.append(f"failing seed {seed}; again: pytest {shlex.quote(item.nodeid)}")
    if told:
        report.sections.append(("playground", "\n".join(told)))
    return report


def _seed_of(item: pytest.Item) -> Any:
    if item.get_closest_marker("seeds") is None:
        return None
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("seed")


def _keep_evidence(item: pytest.Item) -> list[str]:
    keepers = [*item.stash.get(KEEPERS, []), *getattr(item, "keepers", ())]
    if not keepers:
        return []
    from playground.errors import PlaygroundError
    from playground.evidence import FOLDER, keep, shortest

    given = item.config.getoption("--playground-artifacts")
    root = Path(given) if given else item.config.rootpath / FOLDER
    most = int(item.config.getini("playground_artifacts_kept"))
    try:
        folder = keep(root.absolute(), item.nodeid, keepers, most=most)
    except (OSError, PlaygroundError) as error:
        # The failure of the test is what is to be told.
        return [f"its evidence could not be kept: {error}"]
    if folder is None:
        return []
    if hasattr(item, "kept_at"):
        # A scenario names its report itself.
        item.kept_at = folder
        return []
    return [f"kept in {shortest(folder)}"]


def _allowed_hosts(item: pytest.Item) -> list[str]:
    hosts = list(item.config.getini("playground_allow_hosts"))
    for mark in item.iter_markers("allow_hosts"):
        for argument in mark.args:
            # pytest-socket has a mark of this name that takes a list or a text.
            several = isinstance(argument, list | tuple)
            hosts.extend(argument if several else str(argument).split(","))
    if item.config.getoption("--mqtt-record-mode") != "none":
        from playground.mqtt import BrokerUrl

        hosts.extend(BrokerUrl.parse(url).host for url in (record_broker(item),) if url)
    return hosts
