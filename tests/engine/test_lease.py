"""Leases: one owner at a time, dead owners replaced, lost leases noticed before a write."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from marginbench import lease as lease_module
from marginbench.lease import Lease, LeaseLost, read_lease


def test_a_held_lease_is_not_given_twice(tmp_path):
    first = Lease.acquire(tmp_path)
    assert first is not None
    assert Lease.acquire(tmp_path) is None
    assert read_lease(tmp_path).alive
    first.release()
    assert not read_lease(tmp_path).alive
    second = Lease.acquire(tmp_path)
    assert second is not None
    second.release()


def test_progress_is_told_to_whoever_watches(tmp_path):
    with Lease.acquire(tmp_path, renew_seconds=0.02) as lease:
        lease.tell(iteration=7, of=9)
        deadline = time.monotonic() + 10
        while read_lease(tmp_path).progress != {"iteration": 7, "of": 9}:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_killed_owner_of_this_machine_is_replaced_at_once(tmp_path):
    code = (
        "import sys, time, pathlib; from marginbench.lease import Lease; "
        f"Lease.acquire(pathlib.Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    assert Lease.acquire(tmp_path) is None
    owner.kill()
    owner.wait()
    with Lease.acquire(tmp_path) as lease:
        assert lease is not None


def write_foreign_lease(folder, age):
    """The lease of a process on another machine, renewed ``age`` seconds ago."""
    owner = {"machine": "elsewhere", "host": "elsewhere", "pid": 1, "started": 0.0}
    path = folder / "lease-1.json"
    path.write_text(json.dumps({"owner": owner, "released": False, "progress": {}}))
    os.utime(path, (time.time() - age, time.time() - age))


def test_an_owner_elsewhere_is_given_time(tmp_path):
    write_foreign_lease(tmp_path, age=lease_module.EXPIRY_SECONDS - 20)
    assert Lease.acquire(tmp_path) is None
    write_foreign_lease(tmp_path, age=lease_module.EXPIRY_SECONDS + 1)
    with Lease.acquire(tmp_path) as lease:
        assert lease is not None


def test_a_process_number_given_to_another_process_does_not_keep_a_lease(tmp_path):
    with Lease.acquire(tmp_path):
        state = read_lease(tmp_path)
    owner = state.owner | {"started": state.owner["started"] - 1000}
    content = {"owner": owner, "released": False, "progress": {}}
    (tmp_path / "lease-1.json").write_text(json.dumps(content))
    assert not read_lease(tmp_path).alive


def test_an_owner_that_was_replaced_writes_nothing_more(tmp_path):
    slept = Lease.acquire(tmp_path, renew_seconds=0.02)
    slept.check()
    # Another machine took it over while this process was suspended.
    (tmp_path / "lease-2.json").write_text((tmp_path / "lease-1.json").read_text())
    with pytest.raises(LeaseLost, match="another process took this run over"):
        slept.check()
    before = (tmp_path / "lease-2.json").read_bytes()
    slept.release()
    assert (tmp_path / "lease-2.json").read_bytes() == before


def test_a_damaged_lease_file_blocks_for_a_while_only(tmp_path):
    path = tmp_path / "lease-1.json"
    path.write_text("{")
    assert Lease.acquire(tmp_path) is None
    long_ago = time.time() - lease_module.EXPIRY_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    with Lease.acquire(tmp_path) as lease:
        assert lease is not None


def contend(folder, start, log):
    start.wait()
    held = 0
    while held < 10:
        lease = Lease.acquire(folder)
        if lease is not None:
            held += 1
            with log.open("a") as file:
                file.write(f"in {os.getpid()}\n")
            time.sleep(0.001)
            with log.open("a") as file:
                file.write(f"out {os.getpid()}\n")
            lease.release()


def test_of_many_contenders_one_is_in_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    start, log = context.Event(), tmp_path / "log"
    folder = tmp_path / "run"
    folder.mkdir()
    log.touch()
    contenders = [context.Process(target=contend, args=(folder, start, log)) for _ in range(4)]
    for contender in contenders:
        contender.start()
    start.set()
    for contender in contenders:
        contender.join()
        assert contender.exitcode == 0
    lines = log.read_text().splitlines()
    assert len(lines) == 4 * 10 * 2
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert entered == f"in {left.removeprefix('out ')}"
