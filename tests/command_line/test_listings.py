"""Help and lists, as the command prints them."""

import subprocess
import sys


def test_every_command_has_an_example(marginbench):
    assert "Example:" in marginbench("--help").stdout
    for command in ("suites", "heads", "run", "report", "status", "submit", "logs", "cancel"):
        assert "Example: marginbench" in marginbench(command, "--help").stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['marginbench', '--help']\n"
        "from marginbench.command_line import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'pydantic', 'sklearn', 'numpy', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_suites_lists_digits(marginbench, tiny_suite):
    listing = marginbench("suites", "--plugin", tiny_suite).stdout
    assert "digits" in listing
    assert "tiny" in listing
    assert "a suite for tests" in listing


def test_heads_shows_formula_parameters_and_paper(marginbench):
    listing = marginbench("heads").stdout
    for word in (
        "arcface",
        "s·cos(θ_y + m)",
        "m = 0.5",
        "CVPR 2019",
        "l-softmax",
        "integer from 1 to",
    ):
        assert word in listing
    assert "arcface" not in marginbench("heads", "softmax").stdout
