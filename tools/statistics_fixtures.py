"""Writes scipy's and statsmodels' values for the statistics of crate `report`.

The crate's tests compare its functions with these independent values. Run with scipy 1.17 and statsmodels 0.15:

    python tools/statistics_fixtures.py
"""

import json
from pathlib import Path

import numpy as np
import scipy
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

TARGET = Path(__file__).parent.parent / "crates/report/tests/fixtures/statistics.json"


def sample(values):
    """Spread of one sample: n - 1 in the standard deviation, Student's t in the interval."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return {
        "values": values,
        "mean": np.mean(values),
        "standard_deviation": np.std(values, ddof=1),
        "standard_error": stats.sem(values),
        "interval_95": [low, high],
    }


def pairs(name, first, second, wilcoxon_method):
    """The paired tests, two-sided; zero differences are dropped by Wilcoxon's."""
    t_test = stats.ttest_rel(first, second)
    wilcoxon = stats.wilcoxon(first, second, zero_method="wilcox", method=wilcoxon_method)
    return {
        "name": name,
        "first": first,
        "second": second,
        "t": {"statistic": t_test.statistic, "p_value": t_test.pvalue},
        "wilcoxon": {"statistic": wilcoxon.statistic, "p_value": wilcoxon.pvalue},
    }


def discordant(wins, losses):
    """McNemar's tests of one table; only its discordant counts are used."""
    table = [[10, wins], [losses, 10]]
    exact, corrected = mcnemar(table, exact=True), mcnemar(table, exact=False, correction=True)
    return {
        "wins": wins,
        "losses": losses,
        "exact": {"statistic": exact.statistic, "p_value": exact.pvalue},
        "corrected": {"statistic": corrected.statistic, "p_value": corrected.pvalue},
    }


class SplitMix64:
    """The random generator of the bootstrap, reimplemented here so that the resamples are the same."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        mixed = self.state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        mixed ^= mixed >> 31
        return (mixed * bound) >> 64


def bootstrap(strata, resamples, seed):
    """Percentiles by numpy, over resamples of every stratum."""
    draws = SplitMix64(seed)
    means = []
    for _ in range(resamples):
        means.append(np.mean([np.mean([stratum[draws.below(len(stratum))] for _ in stratum]) for stratum in strata]))
    means = np.array(means)
    share = (min(np.sum(means <= 0), np.sum(means >= 0)) + 1) / (resamples + 1)
    return {
        "strata": strata,
        "resamples": resamples,
        "seed": seed,
        "mean": np.mean([np.mean(stratum) for stratum in strata]),
        "interval_95": np.percentile(means, [2.5, 97.5]).tolist(),
        "p_value": min(1.0, 2 * share),
    }


def ranking(name, blocks):
    """Ranks (1 for the highest), Friedman's test and Nemenyi's critical difference at 0.05."""
    ranks = np.array([stats.rankdata(-np.array(block)) for block in blocks])
    test = stats.friedmanchisquare(*np.array(blocks).T)
    count, methods = ranks.shape
    range_quantile = stats.studentized_range.ppf(0.95, methods, np.inf)
    return {
        "name": name,
        "blocks": blocks,
        "average_ranks": ranks.mean(axis=0).tolist(),
        "statistic": test.statistic,
        "p_value": test.pvalue,
        "critical_difference": range_quantile / np.sqrt(2) * np.sqrt(methods * (methods + 1) / (6 * count)),
    }


def main():
    draw = np.random.default_rng(0)
    first = lambda count: np.round(draw.normal(70, 5, count), 6).tolist()
    shifted = lambda values, by: np.round(np.array(values) + draw.normal(by, 1, len(values)), 6).tolist()
    rounded = lambda values: np.round(values, 0).tolist()

    three, nineteen, sixty, ninety = first(3), first(19), first(60), first(90)
    ten_a = [70.0, 71.0, 72.0, 73.0, 74.0, 75.0, 76.0, 77.0, 78.0, 79.0]
    ten_b = [69.0, 72.0, 70.0, 73.0, 71.0, 74.0, 79.0, 73.0, 77.0, 75.0]
    # Every sign flip is enumerated where ties or zeros rule out scipy's table of exact values.
    enumerate_all = stats.PermutationMethod(n_resamples=np.inf)
    p_values = [0.01, 0.04, 0.03, 0.005, 0.5]

    fixture = {
        "made_by": f"tools/statistics_fixtures.py with scipy {scipy.__version__}",
        "samples": [sample(three), sample(nineteen), sample([1.5, 1.5, 4.0, -2.25])],
        "pairs": [
            pairs("three pairs", three, shifted(three, 1), "exact"),
            pairs("nineteen pairs", nineteen, shifted(nineteen, 0.4), "exact"),
            pairs("ten pairs with ties and a zero", ten_a, ten_b, enumerate_all),
            pairs("sixty pairs", sixty, shifted(sixty, 0.2), "approx"),
            pairs("ninety pairs with ties and zeros", rounded(ninety), rounded(shifted(ninety, 0.3)), "approx"),
        ],
        "mcnemar": [discordant(*counts) for counts in [(0, 1), (3, 10), (7, 7), (60, 41), (900, 1010), (5200, 4900)]],
        "bootstrap": [
            bootstrap([np.round(draw.normal(0.3, 1, 12), 3).tolist(), [0.0, 1.0, -1.0, 1.0, 0.0]], 200, 1),
            bootstrap([[1.0, 0.0, -1.0, -1.0, 0.0, 0.0, -1.0]], 101, 7),
        ],
        "rankings": [
            ranking("three methods", np.round(draw.normal(70, 5, (6, 3)), 3).tolist()),
            ranking("sixteen methods with ties", np.round(draw.normal(70, 3, (19, 16)), 0).tolist()),
        ],
        "holm": {"p_values": p_values, "corrected": multipletests(p_values, method="holm")[1].tolist()},
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(fixture, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
