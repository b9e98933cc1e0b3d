"""The project's environment variables are checked before any training."""

import pytest

from marginbench.errors import UserError
from marginbench.runs.environment import check_environment


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MARGINBENCH_RESIDENT_BYTES", "much"),
        ("MARGINBENCH_CUDA_GRAPH", "no"),
        ("MARGINBENCH_DATA", "~nobody-of-this-name/data"),
        ("MARGINBENCH_CACHE", "~nobody-of-this-name/cache"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_name(name, value, monkeypatch):
    check_environment()
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name} = '{value}' is not allowed; allowed: "):
        check_environment()


@pytest.mark.parametrize("verb", [["run"], ["submit", "--executor", "local", "--gpus", "0"]])
def test_verbs_that_train_refuse_it_before_anything_is_made(verb, tmp_path, monkeypatch):
    from marginbench.command_line import main

    monkeypatch.setenv("MARGINBENCH_RESIDENT_BYTES", "much")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(
            [verb[0], "digits", "--size", "small", "--dry-run", *verb[1:]], prog_name="marginbench"
        )
    assert ended.value.code != 0
    assert list(tmp_path.iterdir()) == []
