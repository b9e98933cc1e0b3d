"""``python -m marginbench``, for launchers that start a module: torchrun."""

from marginbench.command_line import main

main(prog_name="marginbench")
