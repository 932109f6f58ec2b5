"""How often luck puts a model in service: the rule of the retraining, simulated.

    python benchmarks/promotion_rule.py [--small] [--seed-spread NATS] [--image-spread NATS]

Two trainings of one recipe differ: by their seeds (`--seed-spread`, the standard deviation of
their true −ELBO) and by how the judge's images happen to suit them (`--image-spread`). A lucky one
that goes in service is the measure for all that follow. For each rule the job is run every week for
one year and for ten, with candidates of equal recipe, starting from a champion of ordinary luck:
`false_promotions` a year and in ten years, and `drift`, the nats that the champion seems to have
gained by then. `promoted` is the share of candidates with a true gain of 0.2, 0.5 and 1 nat that
pass, against a new champion and against that after a year and after ten; `trainings` is what a week
costs. One JSON line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from common import report
from numpy.typing import NDArray

GAINS = (0.2, 0.5, 1.0)
WEEKS = (52, 520)
Rule = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]


def rules(interval: float) -> dict[str, tuple[int, Rule]]:
    """Return the rules by name: the trainings that they may take, and what passes.

    A rule is given the candidates' measured quality, nats `[n, trainings]`, and the champion's,
    `[n]`; higher is better. `interval` is half the 95 % interval of a gain over the images.
    """
    result: dict[str, tuple[int, Rule]] = {
        "0.1 and the interval over images": (
            1,
            lambda new, old: new[:, 0] - old > max(0.1, interval),
        )
    }
    for margin in (0.5, 0.6, 0.7):
        result[f"one seed, {margin}"] = (
            1,
            lambda new, old, margin=margin: new[:, 0] - old > margin,  # type: ignore[misc]
        )
    for seeds in (2, 3, 5):
        for margin in (0.4, 0.5, 0.6):
            result[f"first of {seeds} seeds 0.2, mean {margin}"] = (
                seeds,
                lambda new, old, margin=margin: (  # type: ignore[misc]
                    (new[:, 0] - old > 0.2) & (new.mean(axis=1) - old > margin)
                ),
            )
    return result


def simulate(
    trainings: int, rule: Rule, spreads: tuple[float, float], repeats: int, seed: int
) -> dict[str, Any]:
    """Return what becomes of `repeats` champions under a rule."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the true and the measured quality of trainings of one recipe."""
        true = random.normal(0, spreads[0], shape)
        return true, true + random.normal(0, spreads[1], shape)

    def promoted(champion: NDArray[Any]) -> dict[str, float]:
        shares = {}
        for gain in GAINS:
            _, measured = draw(repeats, trainings)
            shares[str(gain)] = round(float(rule(measured + gain, champion).mean()), 3)
        return shares

    _, champion = draw(repeats)
    result: dict[str, Any] = {"promoted": {"0": promoted(champion)}, "false_promotions": {}}
    promotions, repeated = np.zeros(repeats), 0.0
    for week in range(1, max(WEEKS) + 1):
        _, measured = draw(repeats, trainings)
        passed = rule(measured, champion)
        repeated += float((measured[:, 0] - champion > 0.2).mean()) * (trainings - 1)
        champion = np.where(passed, measured[:, 0], champion)
        promotions += passed
        if week in WEEKS:
            result["promoted"][str(week)] = promoted(champion)
            result["false_promotions"][str(week)] = round(float(promotions.mean()), 3)
    result["drift"] = round(float(champion.mean()), 3)
    result["trainings"] = round(1 + repeated / max(WEEKS), 3)
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="few champions: figures are rough")
    parser.add_argument("--seed-spread", type=float, default=0.1)
    parser.add_argument("--image-spread", type=float, default=0.18)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    spreads = (arguments.seed_spread, arguments.image_spread)
    interval = 1.96 * 2**0.5 * arguments.image_spread
    repeats = 200 if arguments.small else 4000
    table = {
        name: simulate(trainings, rule, spreads, repeats, arguments.seed)
        for name, (trainings, rule) in rules(interval).items()
    }
    report({"benchmark": "promotion_rule", "spreads": spreads, "rules": table})


if __name__ == "__main__":
    main()
