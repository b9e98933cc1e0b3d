"""A function on several processes, each with its rank."""

import socket
import traceback

import pytest
import torch

from marginbench.training.ranks import Ranks
from tests.conftest import fork_context

SIZE = 2
DEADLINE = 900


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def on_ranks(function, *arguments, size=SIZE):
    """What the function returns on each of the processes; it gets its Ranks first."""
    context = fork_context()
    address = free_address()
    results = context.Queue()
    processes = [
        context.Process(
            target=_one_rank, args=(function, Ranks(rank, size), address, results, arguments)
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        found = dict(results.get(timeout=DEADLINE) for _ in processes)
        for process in processes:
            process.join(DEADLINE)
    finally:
        for process in processes:
            process.kill()
    for value in found.values():
        if isinstance(value, str) and value.startswith("Traceback"):
            pytest.fail(value)
    return [found[rank] for rank in range(size)]


def torchrun_environment(ranks, address):
    """What torchrun passes to its processes, all on one machine."""
    host, port = address.removeprefix("tcp://").split(":")
    own = {"RANK": ranks.rank, "WORLD_SIZE": ranks.size, "MASTER_ADDR": host, "MASTER_PORT": port}
    own |= {"LOCAL_RANK": ranks.rank, "LOCAL_WORLD_SIZE": ranks.size}
    return {name: str(value) for name, value in own.items()}


def _one_rank(function, ranks, address, results, arguments):
    torch.set_num_threads(1)
    try:
        results.put((ranks.rank, function(ranks, address, *arguments)))
    except BaseException:
        results.put((ranks.rank, traceback.format_exc()))
