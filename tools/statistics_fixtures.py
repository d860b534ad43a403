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
from statsmodels.stats.power import TTestPower

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


def wilcoxon(name, differences, method):
    """The signed-rank test, two-sided; zero differences are dropped."""
    test = stats.wilcoxon(differences, zero_method="wilcox", method=method)
    return {"name": name, "differences": differences, "statistic": test.statistic, "p_value": test.pvalue}


def t_test(values):
    """scipy's test of one sample against 0, or null where it is undefined."""
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    test = stats.ttest_1samp(values, 0)
    return {"statistic": test.statistic, "p_value": test.pvalue, "standard_error": stats.sem(values)}


def stratified(strata):
    """Mean over fixed strata; for two strata, scipy's Welch test of the first against minus the second."""
    if min(map(len, strata)) < 2 or max(np.ptp(stratum) for stratum in strata) == 0:
        return None
    if len(strata) == 2:
        test = stats.ttest_ind(strata[0], -np.array(strata[1]), equal_var=False)
        return {"statistic": test.statistic, "p_value": test.pvalue}
    squares = np.array([stats.sem(stratum) ** 2 for stratum in strata])
    counts = np.array([len(stratum) for stratum in strata])
    degrees = squares.sum() ** 2 / (squares**2 / (counts - 1)).sum()
    statistic = np.mean([np.mean(stratum) for stratum in strata]) / (np.sqrt(squares.sum()) / len(strata))
    return {"statistic": statistic, "p_value": 2 * stats.t.sf(abs(statistic), degrees)}


def crossed(table):
    """Clark's min F' from the two F values, with his degrees of freedom (1973, p. 347)."""
    if len({len(row) for row in table}) > 1 or len(table) < 2 or len(table[0]) < 2:
        return None
    rows, columns = np.mean(table, axis=1), np.mean(table, axis=0)
    if np.ptp(rows) == 0 and np.ptp(columns) == 0:
        return None
    of_rows, of_columns = (stats.ttest_1samp(means, 0).statistic ** 2 for means in (rows, columns))
    min_f = of_rows * of_columns / (of_rows + of_columns)
    degrees = (of_rows + of_columns) ** 2 / (of_rows**2 / (len(columns) - 1) + of_columns**2 / (len(rows) - 1))
    return {"statistic": np.sqrt(min_f) * np.sign(rows.mean()), "p_value": stats.f.sf(min_f, 1, degrees)}


def studentised(values, resamples, seed):
    """Bootstrap-t interval, with numpy's percentiles."""
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    draws, ratios = SplitMix64(seed), []
    for _ in range(resamples):
        resample = [values[draws.below(len(values))] for _ in values]
        # Not np.ptp: equal values have a spread of exactly 0 in both programs or in neither.
        if len(set(resample)) > 1:
            ratios.append((np.mean(resample) - np.mean(values)) / stats.sem(resample))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return [np.mean(values) - high * stats.sem(values), np.mean(values) - low * stats.sem(values)]


def two_level(name, strata):
    """Everything about the mean of a table of sets by trainings."""
    means = [np.mean(stratum) for stratum in strata]
    return {
        "name": name,
        "strata": strata,
        "by_set": t_test(means),
        "by_training": stratified(strata),
        "crossed": crossed(strata),
        "studentised": studentised(means, 199, 5),
    }


def two_level_cases(draw):
    """Twenty tables: regular, ties, zeros, two trainings, missing rows, a single set or training."""

    def table(sets, trainings, correlation=0.5, shift=0.5):
        of_sets = draw.normal(shift, np.sqrt(correlation), (sets, 1))
        return np.round(of_sets + draw.normal(0, np.sqrt(1 - correlation), (sets, trainings)), 4).tolist()

    def ragged(rows, keep):
        return [row[:count] for row, count in zip(rows, keep)]

    skewed = np.round(draw.exponential(1.0, (19, 3)) - 0.7, 4).tolist()
    with_zeros = table(8, 3)
    with_zeros[2], with_zeros[5] = [0.0, 0.0, 0.0], [0.0, 1.0, -1.0]
    cases = [
        ("vtab", table(19, 3)),
        ("vtab, high correlation", table(19, 3, 0.95)),
        ("vtab, no correlation", table(19, 3, 0.0)),
        ("vtab, no difference", table(19, 3, 0.34, 0.0)),
        ("vtab, five trainings", table(19, 5)),
        ("vtab, two trainings", table(19, 2)),
        ("vtab, one training", table(19, 1)),
        ("skewed", skewed),
        ("ties", np.round(table(19, 3), 0).tolist()),
        ("zeros", with_zeros),
        ("all zero", [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        ("all equal", [[1.5, 1.5], [1.5, 1.5]]),
        ("commonsense", table(8, 3)),
        ("vl", table(7, 3, 0.2, -1.0)),
        ("fgvc, ten trainings", table(5, 10)),
        ("two sets", table(2, 3)),
        ("one set", table(1, 3)),
        ("one pair", table(1, 1)),
        ("missing trainings", ragged(table(6, 3), [3, 2, 3, 3, 2, 3])),
        ("one set with a single training", ragged(table(6, 3), [3, 3, 1, 3, 3, 3])),
    ]
    return [two_level(name, strata) for name, strata in cases]


def power(degrees, noncentrality):
    """statsmodels' power of the two-sided one-sample t test at 0.05."""
    units = degrees + 1
    found = TTestPower().power(noncentrality / np.sqrt(units), units, 0.05)
    return {"degrees_of_freedom": degrees, "noncentrality": noncentrality, "power": found}


def needed(effect):
    """Units for a power of 80 %, by statsmodels."""
    return {"effect": effect, "units": int(np.ceil(TTestPower().solve_power(effect, power=0.8, alpha=0.05)))}


def resampled_interval(methods, shared, statistic, resamples, seed):
    """Stratified bootstrap as rliable's, widened by sqrt(n / (n - 1))."""
    draws, values = SplitMix64(seed), []
    fewest = min(len(stratum) for sets in methods for stratum in sets)
    for _ in range(resamples):
        drawn = []
        for sets in methods:
            common = [draws.below(len(sets[0])) for _ in sets[0]] if shared else None
            drawn.append([[row[i] for i in (common or [draws.below(len(row)) for _ in row])] for row in sets])
        values.append(statistic(drawn))
    observed = statistic(methods)
    wider = np.sqrt(fewest / (fewest - 1))
    return [observed + wider * (bound - observed) for bound in np.percentile(values, [2.5, 97.5])]


def aggregates(first, second, shared):
    """rliable's aggregates, by its published formulas."""
    flat = lambda sets: np.concatenate(sets)
    mean_of_middle = lambda sets: stats.trim_mean(flat(sets), 0.25)
    improvement = lambda both: np.mean(
        [stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(*both)]
    )
    thresholds = [-1.0, 0.0, 0.4, 0.5, 2.0]
    return {
        "first": first,
        "second": second,
        "shared": shared,
        "interquartile_mean": mean_of_middle(first),
        "interquartile_mean_interval": resampled_interval(
            [first], shared, lambda methods: mean_of_middle(methods[0]), 150, 3
        ),
        "optimality_gap": 0.5 - np.mean(np.minimum(flat(first), 0.5)),
        "improvement": improvement([first, second]),
        "improvement_interval": resampled_interval([first, second], shared, improvement, 150, 4),
        "thresholds": thresholds,
        "profile": [np.mean([np.mean(np.array(row) > tau) for row in first]) for tau in thresholds],
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
    draw, more = np.random.default_rng(0), np.random.default_rng(2)
    first = lambda count: np.round(draw.normal(70, 5, count), 6).tolist()
    shifted = lambda values, by: np.round(np.array(values) + draw.normal(by, 1, len(values)), 6).tolist()
    rounded = lambda values: np.round(values, 0).tolist()
    differences = lambda first, second: (np.array(first) - np.array(second)).tolist()

    three, nineteen, sixty, ninety = first(3), first(19), first(60), first(90)
    ten_a = [70.0, 71.0, 72.0, 73.0, 74.0, 75.0, 76.0, 77.0, 78.0, 79.0]
    ten_b = [69.0, 72.0, 70.0, 73.0, 71.0, 74.0, 79.0, 73.0, 77.0, 75.0]
    # Every sign flip is enumerated where ties or zeros rule out scipy's table of exact values.
    enumerate_all = stats.PermutationMethod(n_resamples=np.inf)
    scores = lambda sets, trainings: np.round(
        more.normal(0.4, 0.5, (sets, 1)) + more.normal(0, 0.3, (sets, trainings)), 4
    ).tolist()
    p_values = [0.01, 0.04, 0.03, 0.005, 0.5]

    fixture = {
        "made_by": f"tools/statistics_fixtures.py with scipy {scipy.__version__}",
        "samples": [sample(three), sample(nineteen), sample([1.5, 1.5, 4.0, -2.25])],
        "wilcoxon": [
            wilcoxon("three", differences(three, shifted(three, 1)), "exact"),
            wilcoxon("nineteen", differences(nineteen, shifted(nineteen, 0.4)), "exact"),
            wilcoxon("ten with ties and a zero", differences(ten_a, ten_b), enumerate_all),
            wilcoxon("sixty", differences(sixty, shifted(sixty, 0.2)), "approx"),
            wilcoxon(
                "ninety with ties and zeros", differences(rounded(ninety), rounded(shifted(ninety, 0.3))), "approx"
            ),
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
        "two_level": two_level_cases(np.random.default_rng(1)),
        "power": [power(*case) for case in [(1, 5.0), (2, 3.0), (6, 2.5), (18, 1.0), (18, 2.9), (400, 2.8)]],
        "needed": [needed(effect) for effect in [0.05, 0.2, -0.5, 1.0, 3.0]],
        "aggregates": [
            aggregates(scores(19, 3), scores(19, 3), False),
            aggregates(scores(7, 3), scores(7, 3), True),
            aggregates(np.round(scores(5, 4), 0).tolist(), np.round(scores(5, 3), 0).tolist(), False),
        ],
        "holm": {"p_values": p_values, "corrected": multipletests(p_values, method="holm")[1].tolist()},
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(fixture, default=float) + "\n")


if __name__ == "__main__":
    main()
