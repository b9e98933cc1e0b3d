"""A real SLURM on one machine: a controller, two nodes and munge, in a folder of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

NEEDED = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "mungekey": "munge",
}
ARRAY_SIZE = 2
NAME = "margintest"
NODES = ("n1", "n2")

# cred_expire is also how long a requeued job waits; KillWait what is between SIGTERM and SIGKILL.
CONF = """
ClusterName={name}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MaxArraySize={array_size}
GresTypes=gpu
KillWait=5
SlurmdTimeout=8
MinJobAge=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=100000
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE
PartitionName=hidden Nodes=ALL Hidden=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""
NODE = (
    "NodeName={} NodeHostname=localhost NodeAddr=127.0.0.1 Port={} CPUs={} RealMemory=8000"
    " Gres=gpu:a100:1"
)
# A GPU of every node that SLURM counts, and nobody finds.
GRES = "Name=gpu Type=a100 File=/dev/null\n"


def missing_packages():
    """The Debian packages that are wanted here, or none."""
    return sorted({package for name, package in NEEDED.items() if shutil.which(name) is None})


class SlurmCluster:
    """Starts in its constructor; ``environment`` is for commands that talk to it.

    Args:
        folder: of its own, empty.
        name: of the cluster.
        nodes: names of its nodes.
        cores: of each node.
    """

    def __init__(self, folder: Path, name=NAME, nodes=NODES, cores=1):
        self.folder = folder
        self.nodes = nodes
        for part in ("state", *(f"spool/{node}" for node in nodes)):
            (folder / part).mkdir(parents=True)
        controller, *ports = free_ports(1 + len(nodes))
        self.conf = folder / "slurm.conf"
        self.conf.write_text(
            CONF.format(
                folder=folder,
                name=name,
                controller=controller,
                nodes="\n".join(
                    NODE.format(*node, cores) for node in zip(nodes, ports, strict=True)
                ),
                array_size=ARRAY_SIZE,
            )
        )
        (folder / "gres.conf").write_text(GRES)
        self.environment = os.environ | {"SLURM_CONF": str(self.conf)}
        self.processes = {}
        try:
            self._start_munge()
            self._start("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
            for node in nodes:
                self.start_node(node)
            self.wait_for_nodes()
        except BaseException:
            self.stop()
            raise

    def call(self, *command, check=True):
        """Run a command of SLURM; its output."""
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def start_node(self, node):
        """Start a node's daemon."""
        self._start(node, ["slurmd", "-D", "-f", str(self.conf), "-N", node])

    def crash_node(self, node):
        """Everything of a node dies at once, as when its power fails."""
        victims = {self.processes[node].pid}
        for process in self.jobs_processes(node):
            victims |= {process.pid, *(p.pid for p in process.parents() if is_step_daemon(p))}
        # All stand still before the first one dies: none lives to report to SLURM another's end.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.processes.pop(node).wait()

    def jobs_processes(self, node):
        """The processes that belong to jobs on a node."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if environment.get("SLURM_CONF") == str(self.conf) and (
                environment.get("SLURMD_NODENAME") == node
            ):
                found.append(process)
        return found

    def wait_for_nodes(self):
        """Until all nodes take jobs."""
        up = ["sinfo", "-h", "-N", "-p", "main", "-t", "idle,mix,alloc"]
        number = len(self.nodes)
        wait_until(lambda: self.call(*up).count("\n") >= number, "the nodes to come up")

    def stop(self):
        """End every daemon and every job."""
        if "slurmctld" in self.processes:
            subprocess.run(
                ["scancel", "--user=root"], env=self.environment, capture_output=True, check=False
            )
            wait_until(lambda: not self.call("squeue", "-h", check=False), "an empty queue")
        # All that talk to munge first, and side by side.
        munge = self.processes.pop("munged", None)
        end_processes(self.processes.values())
        end_processes([munge] if munge else [])

    def _start_munge(self):
        key = self.folder / "munge.key"
        self.folder.chmod(0o755)
        subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "log", "seed")]
        socket_file = self.folder / "munge.socket"
        self._start(
            "munged",
            [
                "munged",
                "--foreground",
                "--force",
                f"--key-file={key}",
                f"--socket={socket_file}",
                *files,
            ],
        )
        wait_until(socket_file.exists, "munge")

    def _start(self, name, command):
        log = (self.folder / f"{name}.output").open("ab")
        self.processes[name] = subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )


def end_processes(processes):
    """Ask processes to end; kill those that have not after a while."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_step_daemon(process):
    """Whether a process is SLURM's own that watches over a job's step."""
    try:
        return process.name().startswith("slurmstepd")
    except psutil.Error:
        return False


def wait_until(condition, what, seconds=600.0):
    """Ask again until it holds."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.2)
    return answer


def free_ports(number):
    """TCP ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
