"""Leases: one owner at a time, dead owners replaced, lost leases noticed before a write."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from marginbench.files import temporary_beside
from marginbench.runs import lease as lease_module
from marginbench.runs import lease_state
from marginbench.runs.lease import Lease, LeaseLost
from marginbench.runs.lease_state import holder, read_lease


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


def test_progress_is_reported_to_whoever_watches(tmp_path):
    with Lease.acquire(tmp_path, renew_seconds=0.02) as lease:
        lease.set_progress(iteration=7, of=9)
        deadline = time.monotonic() + 10
        while read_lease(tmp_path).progress != {"iteration": 7, "of": 9}:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_killed_owner_of_this_machine_is_replaced_at_once(tmp_path):
    code = (
        "import sys, time, pathlib; from marginbench.runs.lease import Lease; "
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
    write_foreign_lease(tmp_path, age=lease_state.EXPIRY_SECONDS - 20)
    assert Lease.acquire(tmp_path) is None
    write_foreign_lease(tmp_path, age=lease_state.EXPIRY_SECONDS + 1)
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
    assert read_lease(tmp_path).owner_text() == "an unknown process (lease-1.json is damaged)"
    # A living owner would have replaced it by now.
    long_ago = time.time() - lease_state.DAMAGED_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    with Lease.acquire(tmp_path) as lease:
        assert lease is not None


def test_an_owner_whose_clock_is_ahead_is_given_no_more_time_than_others(tmp_path):
    write_foreign_lease(tmp_path, age=-3600)
    assert holder(tmp_path).owner_text() == (
        "process 1 on elsewhere, whose clock is 1 h 00 min ahead of this machine's"
    )
    # From the first reading on, its age counts.
    assert abs(read_lease(tmp_path).age) < lease_state.EXPIRY_SECONDS / 2
    write_foreign_lease(tmp_path, age=-3600)
    assert Lease.acquire(tmp_path) is None
    assert abs(read_lease(tmp_path).age) < lease_state.EXPIRY_SECONDS / 2


def test_a_link_to_nothing_is_not_read_again_without_end(tmp_path):
    (tmp_path / "lease-1.json").symlink_to("nothing")
    with pytest.raises(FileNotFoundError):
        read_lease(tmp_path)


def failing_writes(monkeypatch, error):
    """Every renewal fails from now on; the event is set when one has."""
    failed = threading.Event()

    def fail(*arguments, **named):
        failed.set()
        raise error

    monkeypatch.setattr(lease_module, "write_text_atomically", fail)
    return failed


DISK_FULL = OSError(errno.ENOSPC, "No space left on device")


def test_renewal_goes_on_after_a_write_that_failed(tmp_path, monkeypatch):
    with Lease.acquire(tmp_path, renew_seconds=0.02) as lease:
        with monkeypatch.context() as full:
            assert failing_writes(full, DISK_FULL).wait(30)
        lease.set_progress(iteration=7)
        deadline = time.monotonic() + 30
        while read_lease(tmp_path).progress != {"iteration": 7}:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_lease_is_given_back_on_a_full_disk_too(tmp_path, monkeypatch):
    lease = Lease.acquire(tmp_path)
    failing_writes(monkeypatch, DISK_FULL)
    lease.release()
    with Lease.acquire(tmp_path) as again:
        assert again is not None


def test_what_killed_processes_left_half_written_is_removed_with_the_lease(tmp_path):
    left = [temporary_beside(tmp_path / name) for name in ("lease-1.json", "checkpoint.pt")]
    for path in left:
        path.touch()
    kept = [tmp_path / ".notes.tmp", tmp_path / "result.json"]
    for path in kept:
        path.touch()
    with Lease.acquire(tmp_path):
        assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "lease-1.json"])


def test_a_contender_whose_half_written_lease_was_removed_has_lost(tmp_path, monkeypatch):
    link = os.link

    def tidied_up_first(source, target):
        source.unlink()
        link(source, target)

    monkeypatch.setattr(os, "link", tidied_up_first)
    assert Lease.acquire(tmp_path) is None


def test_progress_is_passed_on_at_once_to_a_watcher_at_this_machine(tmp_path):
    seen = []
    with Lease.acquire(tmp_path, on_progress=seen.append) as lease:
        lease.set_progress(iteration=7)
        assert seen == [{"iteration": 7}]


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
