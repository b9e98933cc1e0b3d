"""Whatever a profile asks of sbatch and srun: jobs are found, and run as asked."""

import json
import sys

COMMENT = r"""it's "grant" 7 | a\b $HOME `x` %j # ü; marginbench x 1"""
PROFILE = """
[profiles.typed]
partition = "hidden"
gpus = "a100:1"

[profiles.wrapped]
partition = "hidden"
gpus = 0
hours = 1
python = ["sh", "my wrapper.sh", "one word", "PYTHON"]
srun_args = ["--label", "--export=ALL,FROM_SRUN=yes"]
setup = ["export FROM_SETUP=yes"]

[profiles.wrapped.sbatch]
comment = COMMENT
no_requeue = true
Nice = 3
mail-type = ["NONE"]
"""
WRAPPER = """
printf '%s|' "$1" "$FROM_SRUN" "$FROM_SETUP" "$SLURM_NTASKS" >> used
shift
exec "$@"
"""
# What a user's shell may hold; each would change which jobs there are, or which are found.
VARIABLES = {
    "SBATCH_ARRAY_INX": "0-1",
    "SBATCH_JOB_NAME": "other",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_PARTITION": "nowhere",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_WAIT": "1",
    "SCANCEL_INTERACTIVE": "1",
    "SCANCEL_STATE": "RUNNING",
    "SLURM_JOB_ID": "77",
    "SLURM_MEM_PER_CPU": "10",
    "SLURM_NTASKS": "2",
    "SQUEUE_FORMAT": "%j",
    "SQUEUE_FORMAT2": "name",
    "SQUEUE_STATES": "SUSPENDED",
    "SQUEUE_USERS": "nobody",
}


def test_what_a_profile_asks_for_is_what_jobs_are_and_all_are_found(bench, cluster):
    (bench.folder / "my wrapper.sh").write_text(WRAPPER)
    text = PROFILE.replace("PYTHON", sys.executable)
    text = text.replace("COMMENT", json.dumps(COMMENT, ensure_ascii=False))
    (bench.folder / "marginbench.toml").write_text(text)
    bench.environment |= VARIABLES

    # SLURM gives the node's GPU, which torch does not find: no cell is to blame.
    bench("submit", "--profile", "typed", "--cells-per-job", 2)
    clean = {name: value for name, value in bench.environment.items() if name not in VARIABLES}
    bench.environment = clean
    bench.wait_for(lambda: not bench.queue(), "the job on a node without its GPU to end")
    bench.environment = clean | VARIABLES
    (script,) = bench.suite_folder.glob("submissions/*/jobs/*_submission.sh")
    assert "--gpus-per-node=a100:1" in script.read_text()
    status = " ".join(bench("status", status=1).split())
    assert "2 cells: 2 lost" in status
    assert status.count("is gone: n") == 2
    assert "no CUDA device that torch" in status
    (attempted,) = bench.suite_folder.glob("*/attempts.jsonl")
    assert [line["end"] for line in bench.lines(attempted.parent)[1:]] == ["unusable"]

    bench.environment["SBATCH_ACCOUNT"] = "lab"
    arguments = ["--profile", "wrapped", "--max-parallel", 1]
    assert "submitted 2 cells in 1 job array" in bench("submit", *arguments)
    bench.in_the_middle()
    assert "2 cells: 1 running, 1 pending" in bench("status")
    assert "0 to submit" in bench("submit", *arguments)
    shown = cluster.call("scontrol", "show", "job")
    assert f"Comment={COMMENT} marginbench 2" in shown
    assert "Account=lab" in shown
    assert "TimeLimit=01:00:00" in shown
    assert "Requeue=0" in shown
    assert (bench.folder / "used").read_text().endswith("|one word|yes|yes|1|")
    assert "cancelled 2 cells" in bench("cancel")
