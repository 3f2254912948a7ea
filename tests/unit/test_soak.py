"""The soak: the same seed is the same plan, a log can be played again, and what is wrong is seen."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import msgspec
import pytest

from sofa_registry_adapters.errors import InvalidArgument, Unavailable
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, Revision, ServiceView
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.faults.clocks import JumpingClock
from sofa_registry_adapters.testing.faults.nemeses import NEMESES, possible
from sofa_registry_adapters.testing.faults.operators import VERBS
from sofa_registry_adapters.testing.sites import AddressSite, LocalSite, MemorySite
from sofa_registry_adapters.testing.soak.__main__ import main
from sofa_registry_adapters.testing.soak.judging import Judge, Ledger
from sofa_registry_adapters.testing.soak.plan import Plan, Shape
from sofa_registry_adapters.testing.soak.report import Report
from sofa_registry_adapters.testing.soak.resources import Resources
from sofa_registry_adapters.testing.soak.run import new_namespace, shape_for
from sofa_registry_adapters.testing.soak.steps import Log, Step, read_log, read_rounds

ECHO = ServiceKey("com.acme.Echo")
SHAPE = Shape(line=("cut", "black hole"), server=("kill",), lasting=("black hole", "kill"), records=True)
A, B = Instance.of("10.0.0.1:1"), Instance.of("10.0.0.2:1")


def plan(seed: int, shape: Shape = SHAPE, rounds: int = 200) -> list[list[Step]]:
    return list(itertools.islice(Plan(seed, shape).rounds(), rounds))


# The plan.


def test_a_seed_and_a_shape_decide_what_happens() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)
    assert plan(7) != plan(7, msgspec.structs.replace(SHAPE, providers=4))


def test_the_steps_of_a_round_are_in_order_and_say_which_round() -> None:
    for number, steps in enumerate(plan(7), 1):
        assert [one.at for one in steps] == sorted(one.at for one in steps)
        assert {one.round for one in steps} == {number}


def test_everything_happens_at_some_time() -> None:
    steps = [one for steps in plan(7) for one in steps]
    verbs = {"publish", "update", "unpublish", "subscribe", "unsubscribe", "lookup", "services", "reopen", "jump"}
    verbs |= {"start", "kill", "freeze", "delete", "corrupt", "cut", "black hole"}
    assert {one.verb for one in steps} == verbs
    assert {one.actor for one in steps if one.verb == "kill"} == {"child 0", "server"}


def test_the_anchor_is_never_closed_and_never_gone_together_with_the_server() -> None:
    for steps in plan(7):
        assert not [one for one in steps if one.actor == "provider 0" and one.verb == "reopen"]
        if any(one.actor == "server" for one in steps):
            assert not [one for one in steps if one.text("client") == "provider 0"]


def test_what_cannot_be_done_is_not_planned() -> None:
    calm = Shape(children=0)
    assert not [one for steps in plan(7, calm) for one in steps if one.actor.split()[0] in ("line", "server", "child")]
    assert not [one for steps in plan(7, calm) for one in steps if one.actor == "operator"]


# The log.


def test_the_steps_of_a_log_can_be_played_again(tmp_path: Path) -> None:
    path, rounds = tmp_path / "log", plan(7, rounds=5)
    log = Log(path)
    log.write("soak", seed=7)
    for steps in rounds:
        for step in steps:
            log.write("step", step, seconds=0.5, error="Unavailable: …")
        log.write("quiescence", seconds=1.0)
    log.close()
    log.write("step", rounds[0][0])
    assert list(read_rounds(path)) == rounds
    assert next(line.facts for line in read_log(path)) == {"seed": 7}


@pytest.mark.parametrize("text", ("nonsense", '{"time": "late", "what": "step"}'))
def test_what_is_no_log_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(InvalidArgument, match="no log of a soak"):
        list(read_rounds(tmp_path / "log"))


# The judge.


@pytest.fixture
def judge() -> Judge:
    return Judge(Log(None), slack=0.1)


@pytest.fixture
def ledger(judge: Judge) -> Ledger:
    return Ledger(judge, "consumer", ECHO)


def change(*instances: Instance, counter: int = 0, epoch: str = "", **parts: tuple[Instance, ...]) -> InstancesChange:
    return InstancesChange(ServiceView(ECHO, instances, revision=Revision(epoch, counter)), **parts)


def violated(judge: Judge) -> set[str]:
    return {one.invariant for one in judge.violations}


def test_changes_that_add_up_are_no_violation(judge: Judge, ledger: Ledger) -> None:
    ledger(change(A, counter=1, added=(A,)))
    ledger(change(A, B, counter=2, added=(B,)))
    ledger(change(B, counter=2, removed=(A,)))
    ledger(change(B, counter=0, epoch="after a wipe"))
    assert judge.passed
    assert judge.looked["I7"] > 0
    assert judge.looked["I6"] > 0


@pytest.mark.parametrize(
    ("invariant", "second"),
    (
        ("I7", change(A, B, counter=2)),
        ("I7", change(A, counter=2, added=(A,))),
        ("I7", change(A, counter=2, removed=(B,))),
        ("I7", change(A, counter=2, updated=(B,))),
        ("I4", change(A, A, counter=2, added=(A,))),
        ("I6", change(A, counter=0)),
        ("I3", change(B, counter=2, added=(B,), removed=(A,))),
    ),
)
def test_what_makes_no_sense_is_a_violation(
    judge: Judge, ledger: Ledger, invariant: str, second: InstancesChange
) -> None:
    ledger(change(A, counter=1, added=(A,)))
    ledger.guard = frozenset({A.instance_id})
    assert judge.passed
    ledger(second)
    assert invariant in violated(judge)


def test_an_epoch_that_comes_back_is_a_violation(judge: Judge, ledger: Ledger) -> None:
    for epoch in ("", "one", "", "two"):
        ledger(change(epoch=epoch))
    assert judge.passed
    ledger(change(epoch="one"))
    assert violated(judge) == {"I6"}


def test_a_call_has_to_end_in_time_and_to_raise_errors_of_the_library(judge: Judge) -> None:
    with pytest.raises(Unavailable), judge.call("publish", 1.0):
        raise Unavailable("it is down")
    assert judge.passed
    assert (judge.calls["publish"], judge.failed["publish"]) == (1, 1)
    with judge.call("publish", -1.0):
        pass
    assert violated(judge) == {"I10"}
    with judge.call("publish", 1.0):
        raise KeyError("what a user cannot expect")
    assert violated(judge) == {"I10", "I8"}


def test_what_grows_is_a_violation(judge: Judge) -> None:
    counts = itertools.count(0, 10)
    resources = Resources(lambda: {"watches": next(counts), "leases": 4, "records": 12})
    for _ in range(30):
        resources.sample(children=0, links=0, instances=10)
    resources.judge(judge, 30.0)
    assert [one.what.partition(" grew")[0] for one in judge.violations] == ["server: watches"]
    assert resources.trends()["server: leases"].last == 4.0


def test_what_grows_with_the_instances_is_none(judge: Judge) -> None:
    published = itertools.count(0, 5)
    resources = Resources(lambda: {"watches": next(published) * 2, "records": 7})
    for number in range(30):
        resources.sample(children=0, links=0, instances=5 * number)
    resources.judge(judge, 30.0)
    assert judge.passed


# The sites and their faults.


def test_the_wall_clock_jumps_and_no_other_does() -> None:
    clock = JumpingClock()
    before = clock.monotonic(), clock.boot(), clock.wall_ms()
    clock.jump(-3600.0)
    assert clock.wall_ms() < before[2] - 3_500_000
    assert clock.monotonic() >= before[0]
    assert clock.boot() >= before[1]


def test_a_fault_is_possible_where_the_site_has_its_verbs() -> None:
    memory, there = MemorySite("faults"), AddressSite("redis://127.0.0.1:1")
    assert {one.name for one in possible(memory, "server")} == {"kill", "pause", "wipe", "expire", "hang up"}
    assert possible(memory, "line") == ()
    assert possible(there, "server") == ()
    assert "black hole" in {one.name for one in possible(there, "line")}
    assert all(
        one.needs <= VERBS | {"kill", "start", "stop", "pause", "resume", "wipe", "deny", "allow"}
        for one in NEMESES.values()
    )
    with pytest.raises(NotImplementedError, match="forget"):
        memory.forget()


@pytest.mark.parametrize(
    "url", ("etcd://a:1,b:1", "rediss://a:1", "local:///tmp/x.db", "memory://x", "zookeeper://a:1,b:2")
)
def test_a_line_is_one_to_one_server_without_tls(url: str) -> None:
    assert not AddressSite(url).lines
    assert AddressSite(url).url_of("anybody") == url


def test_each_client_has_a_line_of_its_own() -> None:
    with AddressSite("redis://user:p%40ss@127.0.0.1:1/3?lease=5s") as site:
        first, second = site.url_of("a"), site.url_of("b")
        assert first != second
        assert site.url_of("a") == first
        assert first == f"redis://user:p%40ss@{site.line('a').address}/3?lease=5s"


def test_what_cannot_lose_records_is_known() -> None:
    with LocalSite() as site:
        assert NEMESES["pause"].keeps_records(site, 0.2)
        assert not NEMESES["pause"].keeps_records(site, 3.0)
        assert not NEMESES["wipe"].keeps_records(site, 0.0)
    site.keeps_data = False
    assert not NEMESES["kill"].keeps_records(site, 0.2)
    assert NEMESES["pause"].keeps_records(site, 0.2)


# The whole.


def test_the_same_command_runs_it_and_plays_it_again(tmp_path: Path) -> None:
    log, again, result = tmp_path / "log", tmp_path / "again", tmp_path / "result.json"
    assert main(["--product=memory", "--rounds=3", "--seed=4", f"--log={log}", f"--result={result}"]) == 0
    report = msgspec.json.decode(result.read_bytes(), type=Report)
    assert (report.passed, report.rounds, report.seed, report.backend) == (True, 3, 4, "memory://")
    assert set(report.looked) >= {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I10", "I11", "I12"}
    assert main(["--product=memory", f"--replay={log}", f"--log={again}", f"--result={result}"]) == 0

    def planned(path: Path) -> list[list[Step]]:
        clean = [[one for one in steps if one.verb != "clean"] for steps in read_rounds(path)]
        return [sorted(steps, key=lambda one: (one.at, one.actor)) for steps in clean if steps]

    with MemorySite("same", {"namespace": new_namespace()}) as site:
        shape = shape_for(site, Shape())
    expected = [sorted(steps, key=lambda one: (one.at, one.actor)) for steps in plan(4, shape, rounds=3)]
    assert planned(log) == planned(again) == expected


def test_a_registry_that_is_not_there_is_no_soak(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url=redis://127.0.0.1:1", "--seconds=1"]) == 2
    assert "the soak cannot run" in capsys.readouterr().err
    eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("sofa-registry")])
