"""``python -m marginbench.command_line``."""

from marginbench.command_line import main

main()
