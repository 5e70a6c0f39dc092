"""What a stack starts it can end exactly: children, orphans, nobody else."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.stack.processes import MARK, Component, Stack, StackError, are_free, free_ports

SLEEPS = "import time; time.sleep(300)"


def component(name: str, code: str, healthy: bool = True) -> Component:
    return Component(name, [sys.executable, "-c", code], dict(os.environ), lambda: healthy)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read(path: Path) -> int:
    """The process id a child has written down."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack.claim(tmp_path / "s")
    yield stack
    stack.end()


def test_down_ends_children_and_orphans_and_nobody_else(stack: Stack, tmp_path: Path) -> None:
    """Airflow's workers start processes of their own, in sessions of their own, and may die before them."""
    child, orphan = tmp_path / "child", tmp_path / "orphan"
    start = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}], start_new_session=True)"
    write = "; open({!r}, 'w').write(str(p.pid))"
    stack.start(component("parent", f"{start}{write.format(str(child))}; p.wait()"))
    stack.start(component("leaver", f"{start}{write.format(str(orphan))}"))
    bystander = subprocess.Popen([sys.executable, "-c", SLEEPS])
    try:
        pids = [read(child), read(orphan), stack.processes[1]["pid"]]
        assert all(lives(pid) for pid in pids)
        found = Stack.find(stack.folder)
        assert found is not None
        assert found.end() >= 3
        assert not any(lives(pid) for pid in pids)
        assert lives(bystander.pid)
        assert not stack.record.exists()
    finally:
        bystander.kill()
        bystander.wait()


def test_down_ends_an_orphan_that_has_written_over_its_environment(stack: Stack, tmp_path: Path) -> None:
    """Airflow's idle workers give themselves a title; those of a killed scheduler were left running."""
    at = tmp_path / "worker"
    titled = "import os, setproctitle; setproctitle.setproctitle('worker' * 500); "
    titled += f"open({str(at)!r}, 'w').write(str(os.getpid()))"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {f'{titled}; {SLEEPS}'!r}]); {SLEEPS}"
    stack.start(component("scheduler", code))
    worker = read(at)
    assert MARK not in psutil.Process(worker).environ()
    scheduler = psutil.Process(stack.processes[-1]["pid"])
    scheduler.kill()
    stack._children["scheduler"].wait()
    assert lives(worker)
    stack.end()
    assert not lives(worker)


def test_a_process_id_that_was_given_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """After a reboot stack.json may name the id of a stranger."""
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPS])
    try:
        entry = {"name": "mlflow", "pid": stranger.pid, "started": 1.0, "log": None}
        record = {"mark": "m", "processes": [entry], "facts": {}}
        (tmp_path / "stack.json").write_text(json.dumps(record))
        found = Stack.find(tmp_path)
        assert found is not None
        assert found.end() == 0
        assert lives(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    """Two Airflows on one database would take each other's tasks."""
    stack.facts = {"urls": {"airflow": "http://127.0.0.1:1"}}
    stack.start(component("sleeper", SLEEPS))
    with pytest.raises(StackError, match=r"already running .*http://127.0.0.1:1"):
        Stack.claim(stack.folder)


def test_the_record_of_a_dead_stack_is_no_obstacle(tmp_path: Path) -> None:
    """A machine that was switched off leaves one behind."""
    entry = {"name": "mlflow", "pid": 1, "started": 1.0, "log": None}
    (tmp_path / "stack.json").write_text(json.dumps({"mark": "m", "processes": [entry], "facts": {}}))
    stack = Stack.claim(tmp_path)
    assert [p["name"] for p in stack.processes] == ["launcher"]
    stack.end()


def test_a_component_that_dies_is_named_with_its_log(stack: Stack) -> None:
    """Waiting three minutes for something that died in the first second helps nobody."""
    broken = component("mlflow", "import sys; print('no such option'); sys.exit(3)", healthy=False)
    stack.start(broken)
    started = time.monotonic()
    with pytest.raises(StackError, match=r"mlflow must keep running; it ended with 3.*mlflow.log"):
        stack.wait_healthy([broken], 600)
    assert time.monotonic() - started < 300
    assert "no such option" in stack.log("mlflow").read_text()


def test_a_component_that_is_never_ready_is_named_with_its_last_words(stack: Stack) -> None:
    """The limit ends the wait with a sentence, not with a stack trace."""
    slow = component("endpoint", "print('still loading', flush=True); import time; time.sleep(300)", healthy=False)
    stack.start(slow)
    with pytest.raises(StackError, match=r"endpoint must be ready in 2 s; its last words: .*; its log: "):
        stack.wait_healthy([slow], 2)


def test_every_child_carries_the_mark_of_its_own_stack(stack: Stack) -> None:
    """Two stacks side by side end only their own."""
    stack.start(component("sleeper", SLEEPS))
    sleeper, until = psutil.Process(stack.processes[1]["pid"]), time.monotonic() + 120
    while MARK not in sleeper.environ() and time.monotonic() < until:  # forked, and not yet the program it becomes
        time.sleep(0.05)
    assert sleeper.environ()[MARK] == stack.mark


def test_ports_are_free_and_different() -> None:
    """They are held together while they are chosen."""
    assert len(set(free_ports(20))) == 20


def test_a_port_somebody_listens_on_is_not_taken_again() -> None:
    """An address the demo has printed stays good for `up`, unless another program has it by now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not are_free([listener.getsockname()[1]])
    assert are_free(free_ports(2))
