"""What a study of composites finds: two steps against one model, on fakes and with reals, and what routing costs."""

from collections.abc import Iterator

from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Study, sides
from dfloc.report.pipelines import Pipeline, dearest, numbers, pipelines


def findings(study: Study) -> Iterator[Finding]:
    """Yield what is found of two steps: of the composite that its title asks about, and of others beside it.

    That is the first one of most parts; it stands against the one model that is trained on all domains. No test number
    chooses either.
    """
    found = pipelines(study)
    two = [one for one in found if one.composed and one.group.scored]
    alone = next((one for one in found if not one.composed and one.group.scored), None)
    routed = [one for one in two if one.group.first.trial.spec.decoder.rule == "argmax"]
    if alone is None or not two:
        return
    asked = max(routed or two, key=lambda one: len(one.group.first.trial.parents))
    if (answer := _against(study, "two_steps", asked, alone)) is not None:
        yield answer
    if (with_reals := _with_reals(study, asked, alone)) is not None:
        yield with_reals
    if (cost := _cost(study, asked)) is not None:
        yield cost
    for number, one in enumerate(each for each in two if each is not asked):
        if (other := _against(study, f"other_{number + 1}", one, alone)) is not None:
            yield other


def _against(study: Study, key: str, one: Pipeline, alone: Pipeline) -> Finding | None:
    """Return a composite against the one model, on fakes, over the runs that both have."""
    found = sides(*([(each.group, domain) for domain in study.tested] for each in (one, alone)))
    if found is None:
        return None
    mine, theirs, change = found
    word = "better" if change.value > 0 else "worse"
    said = f"{one.name} has {mine.value:.2f} on fakes, one model ({alone.name}) {theirs.value:.2f}"
    values: dict[str, Estimate | float] = {"composite": mine, "one_model": theirs}
    return Finding(
        key, f"{said}: two steps are {word} by {abs(change.value):.2f}", values, [(change, "that is not decided")], said
    )


def _with_reals(study: Study, one: Pipeline, alone: Pipeline) -> Finding | None:
    mine, theirs = numbers(study, one), numbers(study, alone)
    pair, other, empty = mine["with_reals"], theirs["with_reals"], mine["empty"]
    nothing, other_empty = mine["nothing"], theirs["empty"]
    if pair is None or other is None or empty is None or nothing is None or other_empty is None:
        return None
    text = (
        f"With reals beside the fakes it has {pair:.2f}, the one model {other:.2f}, and an empty map for every image "
        f"{nothing:.2f}; it leaves {100 * empty:.0f} % of the reals alone, the one model {100 * other_empty:.0f} %"
    )
    return Finding("with_reals", text, {"with_reals": pair, "one_model": other, "empty": empty, "nothing": nothing})


def _cost(study: Study, one: Pipeline) -> Finding | None:
    found = numbers(study, one)
    oracle, cost, recall = found["oracle"], found["cost"], found["recall"]
    if oracle is None or cost is None or recall is None:
        return None
    cell = dearest(study, one)
    most = f", most of it {cell.true} called {cell.called} ({100 * cell.part:.0f} %)" if cell and cell.part > 0 else ""
    text = (
        f"A router that is always right would have {oracle:.2f} on fakes: routing, right on {100 * recall:.0f} % of "
        f"them, costs {cost:.2f}{most}"
    )
    return Finding("routing", text, {"oracle": oracle, "cost": cost, "recall": recall})
