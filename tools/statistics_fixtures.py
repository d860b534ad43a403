"""Writes scipy's and statsmodels' values for the statistics of crate `report`.

The crate's tests compare its own functions with these, so that no figure of ours is checked
against ourselves. Run with scipy 1.17 and statsmodels 0.15:

    python tools/statistics_fixtures.py
"""

import json
from pathlib import Path

import numpy as np
import scipy
from scipy import stats
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
        "holm": {"p_values": p_values, "corrected": multipletests(p_values, method="holm")[1].tolist()},
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(fixture, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
