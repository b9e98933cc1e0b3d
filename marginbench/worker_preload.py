"""Imported once by the server that worker processes are forked from, so that none imports it again.

It starts no thread and touches no GPU: both would make forking unsafe.
"""

from marginbench.backbones import backbone_names
from marginbench.data import data_source_names
from marginbench.heads import head_names
from marginbench.training import make_deterministic

# Asking for the names imports the modules behind them.
data_source_names()
backbone_names()
head_names()
# The first call imports a good part of torch.
make_deterministic()
