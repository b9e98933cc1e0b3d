"""What the command says of a search: how much it is, what it chose, what is to be done next."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from marginbench.experiments.head_search import HeadSearch
from marginbench.runs.suite_runs import SuiteRun
from marginbench.runs.tuned_runs import TunedRun
from marginbench.text import count


def print_search(console: Console, search: TunedRun) -> None:
    """Say how much is searched, and which heads have no search space of their own."""
    searches = [result.search for result in search.results]
    heads = list(dict.fromkeys(own.head for own in searches))
    settings = list(dict.fromkeys(own.setting for own in searches))
    trials = max(len(own.trials) for own in searches)
    repeats = max(own.repeat for own in searches) + 1
    console.print(
        f"search: {count(len(heads), 'head')} in {count(len(settings), 'setting')}, "
        f"{count(trials, 'trial')} each"
        + _finalists(searches[0])
        + (f", {repeats} times" if repeats > 1 else "")
    )
    bare = list(dict.fromkeys(own.head for own in searches if not own.declares))
    if bare:
        console.print(
            f"[yellow]note[/]: {escape(', '.join(bare))}: no search space of its own is declared; "
            "searched are the learning rates and the weight decay (docs/tuning.md)"
        )


def print_finalists(console: Console, search: TunedRun) -> None:
    """Say which trials of the searches that are not complete are run with further seeds."""
    for result in search.incomplete:
        own = result.search
        numbers = ", ".join(map(str, result.finalists))
        console.print(
            f"  {escape(own.setting)}, {escape(own.head)}: {_further_seeds(own)} for the best: "
            f"{'trials' if len(result.finalists) > 1 else 'trial'} {numbers}",
            highlight=False,
            soft_wrap=True,
        )


def print_choices(console: Console, search: TunedRun) -> None:
    """Say what each search has chosen."""
    for result in search.results:
        own, chosen = result.search, result.chosen
        if chosen is None:
            continue
        values = " ".join(
            f"{name.partition('.')[2]}={value:g}"
            if isinstance(value, float)
            else f"{name.partition('.')[2]}={value}"
            for name, value in own.trials[chosen].values.items()
        )
        which = "the suite's own values" if chosen == 0 else f"trial {chosen}"
        console.print(
            f"  {escape(own.setting)}, {escape(own.head)}: {which}: {escape(values)}",
            highlight=False,
            soft_wrap=True,
        )


def print_incomplete(console: Console, search: TunedRun) -> None:
    """Say which trials have no result, once all that could be trained was."""
    lacking = [
        f"{result.search.head} ({result.finished} of {len(result.errors)})"
        for result in search.incomplete
    ]
    console.print(
        f"[yellow]the search is not complete[/]: {escape(', '.join(lacking))} trials have a "
        "result; the same command goes on"
    )


def search_notes(suite_run: SuiteRun) -> list[str]:
    """Of a search on a cluster that is not complete: what is to be done for its final runs."""
    if not isinstance(suite_run, TunedRun) or not suite_run.incomplete:
        return []
    incomplete = suite_run.incomplete
    trials = sum(len(result.errors) - result.finished for result in incomplete)
    name = suite_run.suite.name
    later = "the final runs of what they chose"
    if any(not result.finalists for result in incomplete):
        later = "the further seeds of the best of them, and then " + later
    return [
        f"{count(trials, 'trial')} without a result yet; when they are done, `marginbench submit "
        f"{name} --tuned` submits {later}, `marginbench tune {name}` runs them here"
    ]


def print_notes(console: Console, notes: list[str]) -> None:
    """Print the lines of :func:`search_notes`."""
    for note in notes:
        console.print(f"[yellow]note[/]: {escape(note)}", highlight=False)


def _finalists(search: HeadSearch) -> str:
    """How many of a head's trials have further seeds; "" where all are run alike."""
    if search.finalists is None:
        return ""
    best = "best" if search.finalists == 1 else f"{search.finalists} best"
    return f", the {best} of them with {_further_seeds(search)}"


def _further_seeds(search: HeadSearch) -> str:
    return count(len(search.trial_seeds) - 1, "further seed")
