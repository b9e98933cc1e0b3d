"""Compare margin losses: declare a grid of training runs, run it, read one report.

What a plug-in or a notebook needs is imported from here:

========================  ========================================================================
``Head``                  base class of a head: features and labels → loss, features → logits
``CosineHead``            base class of a head that is given by its target logit ψ(cos θ)
``register_head``         class decorator: make a head known by a name
``Regulariser``           base class of a regulariser: the filters of a layer → penalty
``register_regulariser``  class decorator: make a regulariser known by a name
``Backbone``              base class of a backbone: images → features; any module will do
``register_backbone``     function decorator: make a backbone known by a name
``ImageData``             what a data source returns: images, labels, class names, pairs to verify
``VerificationPairs``     pairs of images to verify, of classes that are not trained on
``data_source``           function decorator: make a data source known by a name
``suite``                 function decorator: make a suite, a named list of cells, known by a name
``grid``                  the product of choices as cells
``component``             a part of a cell with its parameters: ``component("arcface", m=0.3)``
``Optimiser``             a cell's solver: learning rate, momentum, weight decay
``Schedule``              a cell's training: iterations, batches, milestones, evaluations
``Search``                how a suite is searched: trials, their length and seeds, ranges
``Uniform``               a range of a search: every value as likely
``LogUniform``            a range of a search: every factor as likely
``Choice``                a range of a search: one of several values
``section``               function decorator: make a section of the report known by a name
``SectionContent``        what a section returns: text, tables, figures
``Table``                 a table of the report
``Figure``                a figure of the report
``results``               the results of a suite as a pandas frame, one row a cell
``load_trained``          backbone and head of a finished run folder, ready to use
========================  ========================================================================

Each name is loaded when it is asked for: ``import marginbench`` loads neither torch nor pandas.
Everything else is in a subpackage; docs/architecture.md says which.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marginbench.backbones import Backbone, register_backbone
    from marginbench.data import ImageData, VerificationPairs, data_source
    from marginbench.experiments.cell_fields import Optimiser, Schedule
    from marginbench.experiments.grids import component, grid
    from marginbench.experiments.search import Search
    from marginbench.experiments.suites import suite
    from marginbench.heads import CosineHead, Head, register_head
    from marginbench.plugins.search_ranges import Choice, LogUniform, Uniform
    from marginbench.regularisers import Regulariser, register_regulariser
    from marginbench.reporting.sections import Figure, SectionContent, Table, section
    from marginbench.runs.results import results
    from marginbench.training.trained import load_trained

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "Choice",
    "CosineHead",
    "Figure",
    "Head",
    "ImageData",
    "LogUniform",
    "Optimiser",
    "Regulariser",
    "Schedule",
    "Search",
    "SectionContent",
    "Table",
    "Uniform",
    "VerificationPairs",
    "component",
    "data_source",
    "grid",
    "load_trained",
    "register_backbone",
    "register_head",
    "register_regulariser",
    "results",
    "section",
    "suite",
]

# Read by marginbench.plugins.source_modules too, which follows imports without running them.
LAZY_NAMES = {
    "Backbone": "marginbench.backbones",
    "Choice": "marginbench.plugins.search_ranges",
    "CosineHead": "marginbench.heads",
    "Figure": "marginbench.reporting.sections",
    "Head": "marginbench.heads",
    "ImageData": "marginbench.data",
    "LogUniform": "marginbench.plugins.search_ranges",
    "Optimiser": "marginbench.experiments.cell_fields",
    "Regulariser": "marginbench.regularisers",
    "Schedule": "marginbench.experiments.cell_fields",
    "Search": "marginbench.experiments.search",
    "SectionContent": "marginbench.reporting.sections",
    "Table": "marginbench.reporting.sections",
    "Uniform": "marginbench.plugins.search_ranges",
    "VerificationPairs": "marginbench.data",
    "component": "marginbench.experiments.grids",
    "data_source": "marginbench.data",
    "grid": "marginbench.experiments.grids",
    "load_trained": "marginbench.training.trained",
    "register_backbone": "marginbench.backbones",
    "register_head": "marginbench.heads",
    "register_regulariser": "marginbench.regularisers",
    "results": "marginbench.runs.results",
    "section": "marginbench.reporting.sections",
    "suite": "marginbench.experiments.suites",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(LAZY_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
