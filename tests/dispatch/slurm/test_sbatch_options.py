"""Which options of sbatch a profile may have, by the table and by the real sbatch's own help."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marginbench.dispatch.slurm import sbatch_options as options
from marginbench.dispatch.slurm.commands import parse_queue
from marginbench.dispatch.slurm.settings import make_settings, read_profile
from marginbench.errors import UserError

CLASSES = [
    {options.COMMENT},
    options.SETTINGS.keys(),
    options.RESERVED.keys(),
    options.VALUED,
    options.SWITCHES,
    options.EITHER,
]
EVERY = sorted(set().union(*CLASSES))


def test_each_option_is_in_one_class():
    assert sum(map(len, CLASSES)) == len(EVERY)
    assert set(options.SHORT.values()) <= set(EVERY)


def test_the_table_has_every_option_of_sbatch_here(tmp_path, monkeypatch):
    if shutil.which("sbatch") is None:
        pytest.skip("sbatch is not installed")
    conf = tmp_path / "slurm.conf"
    conf.write_text(
        "ClusterName=x\nSlurmctldHost=localhost\nNodeName=n\nPartitionName=p Nodes=ALL\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(conf))
    text = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^ +(?:-(\w),? +)?--([a-z][a-z-]+)", text, flags=re.MULTILINE)
    assert len(lines) > 70
    assert {name for _, name in lines} <= set(EVERY)
    for letter, name in lines:
        assert not letter or options.SHORT[letter] == name

    def complains(argument, of):
        done = subprocess.run(["sbatch", argument], capture_output=True, text=True, check=False)
        return of in done.stderr

    for _, name in lines:
        if name in options.SWITCHES:
            assert complains(f"--{name}=1", "doesn't allow an argument"), name
        elif name in options.VALUED:
            assert complains(f"--{name}", "requires an argument"), name


def spellings(name):
    shorts = [letter for letter, long in options.SHORT.items() if long == name]
    under = name.replace("-", "_")
    return [
        name,
        under,
        name.upper(),
        under.upper(),
        f"--{name}",
        f"SBATCH_{under.upper()}",
        *shorts,
    ]


@given(st.sampled_from(EVERY), st.data())
def test_every_spelling_of_an_option_has_its_class(name, data):
    spelling = data.draw(st.sampled_from(spellings(name)))
    assert options.long_names(spelling) == [name]
    value = True if name in options.SWITCHES else "1"
    read, problems = options.read_options({spelling: value})
    if name in options.SETTINGS or name in options.RESERVED:
        assert spelling in problems[0]
        assert not read
    else:
        assert not problems
        assert list(read) == [name.removeprefix("no-") if name == "no-requeue" else name]


@given(st.sampled_from(EVERY), st.integers(2, 20))
def test_an_abbreviation_is_the_option_that_alone_begins_so(name, length):
    begun = [one for one in EVERY if one.startswith(name[:length])]
    expected = [name[:length]] if name[:length] in EVERY else begun
    assert options.long_names(name[:length]) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"requeue": False}, {"no-requeue": True}),
        ({"no_requeue": True}, {"no-requeue": True}),
        ({"no_requeue": False}, {"requeue": True}),
        ({"exclusive": True, "hold": False}, {"exclusive": True}),
        ({"exclusive": "user", "nice": 0}, {"exclusive": "user", "nice": 0}),
        ({"Mail-Type": ["END", "FAIL"]}, {"mail-type": "END,FAIL"}),
        ({"gres": "lscratch:10"}, {"gres": "lscratch:10"}),
    ],
)
def test_values_become_lines_of_the_script(given, expected):
    assert options.script_options(make_settings({"sbatch": given}).sbatch) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sbatch": {"gres": "gpu:a100:1"}}, 'allowed: the setting gpus = "a100:1"'),
        ({"sbatch": {"gres": "gpu:2,x:1"}}, 'gpus = 2, and gres = "x:1" here'),
        ({"sbatch": {"gpus-per-node": 1, "cpus_per_task": 2}}, "setting gpus; sbatch: 'cpus"),
        ({"sbatch": {"mail-user": "a", "mail_user": "b"}}, "'mail-user' is given twice"),
        ({"sbatch": {"excl": 1}}, "it may be: exclude, exclusive"),
        ({"sbatch": {"reservaton": "x"}}, "no option of sbatch; allowed: reservation"),
        ({"sbatch": {"exclude": "n1\n#SBATCH --hold"}}, "printable text in one line"),
        ({"sbatch": {"requeue": "no"}}, "requeue = 'no' is not allowed; allowed: true or false"),
        ({"sbatch": {"exclude": True}}, "exclude = True is not allowed"),
        ({"partition": "a\nb"}, "partition = 'a\\nb' is not allowed"),
        ({"setup": ["\n #SBATCH --hold"]}, "written in [profiles.NAME.sbatch]"),
        ({"python": "a 'b"}, "each quotation closed"),
        ({"srun_args": ["--ntasks=2"]}, "'--ntasks=2' is not allowed"),
        ({"srun_args": ["-n2"]}, "'-n2' is not allowed"),
        ({"srun_args": ["hostname"]}, "'hostname' is not allowed"),
        ({"hours": True}, "hours = True is not allowed"),
        ({"cpus": "2"}, "cpus = '2' is not allowed"),
        ({"gpus": "1"}, "gpus = '1' is not allowed"),
        ({"gpus": True}, "gpus = True is not allowed"),
        ({"gpus": "a100:0"}, "gpus = 'a100:0' is not allowed"),
    ],
)
def test_what_is_refused_is_named(given, words):
    with pytest.raises(UserError) as refused:
        make_settings(given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_profile_may_begin_with_a_byte_order_mark(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = '[profiles.a]\ngpus = "a100:2"\npython = "apptainer exec IMAGE python"\n'
    (tmp_path / "marginbench.toml").write_bytes(text.encode("utf-8-sig"))
    settings = make_settings(read_profile("a"))
    assert (settings.gpu_count, settings.world_size) == (2, 2)
    assert settings.python == ("apptainer", "exec", "IMAGE", "python")


def test_variables_of_what_the_settings_decide_are_hidden(monkeypatch):
    for name in ("ACCOUNT", "PARTITION", "RESERVATION", "TIMELIMIT", "ARRAY_INX", "NO_REQUEUE"):
        monkeypatch.setenv(f"SBATCH_{name}", "x")
    given = make_settings({"partition": "p"}).model_dump()
    hidden = {name.removeprefix("SBATCH_") for name in options.overriding_variables(given)}
    assert hidden == {"PARTITION", "TIMELIMIT", "ARRAY_INX", "NO_REQUEUE"}


def test_a_users_comment_may_have_the_separator():
    (job,) = parse_queue("9|N/A|9|PENDING|a | b c marginbench b 1||Nodes | DOWN\n")
    assert (job.comment, job.node) == ("a | b c marginbench b 1", "")
