"""Imported once by the server that worker processes are forked from, so that none imports it again.

It starts no thread and touches no GPU: both would make forking unsafe.
"""

from marginbench.backbones import backbone_names
from marginbench.data import data_source_names
from marginbench.dispatch.worker_process import work_in_child
from marginbench.heads import head_names
from marginbench.runs.deciding_code import read_sources
from marginbench.training import loop as training

__all__ = ["training", "work_in_child"]

# Asking for the names imports the modules behind them.
data_source_names()
backbone_names()
head_names()
# As they are now: what is imported here is what the cells' processes train by.
read_sources()
