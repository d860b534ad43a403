"""Differences between methods from a `*-runs.csv`, with scipy: an independent check of what `san report` prints.

    python tools/paired_differences.py results/measured/*/*-runs.csv

By set: t test over the sets' mean differences; where one model is trained for all sets (commonsense, vl) min F' (Clark
1973), which adds the variance of trainings. By training: variances within sets (Welch), or a t test over seeds where the
sets share a model. p-values are corrected by Holm for all differences to linear and LoRA; `pairs` is the t test over all
pairs of sets and seeds, which treats them as independent and rejects too often.
"""

import csv
import sys
from collections import defaultdict

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

BASELINES = ["linear", "lora"]
SHARED = ["commonsense", "vl"]


def read(path):
    """Scores in percent by label, set and seed, and the registry name of each label."""
    scores, methods = defaultdict(dict), {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            methods[row["label"]] = row["method"]
            if row["accuracy"]:
                scores[row["label"]][row["dataset"], row["seed"]] = 100 * float(row["accuracy"])
            suite = row["suite"]
    return suite, scores, methods


def by_set(table, shared):
    means = [np.mean(row) for row in table]
    if len(means) < 2:
        return np.nan, np.nan
    if not shared:
        return stats.sem(means), stats.ttest_1samp(means, 0).pvalue
    seeds = np.mean(table, axis=0)
    if len(seeds) < 2:
        return np.nan, np.nan
    of_sets, of_seeds = (stats.ttest_1samp(values, 0).statistic ** 2 for values in (means, seeds))
    min_f = of_sets * of_seeds / (of_sets + of_seeds)
    degrees = (of_sets + of_seeds) ** 2 / (of_sets**2 / (len(seeds) - 1) + of_seeds**2 / (len(means) - 1))
    return abs(np.mean(means)) / np.sqrt(min_f), stats.f.sf(min_f, 1, degrees)


def by_training(table, shared):
    if min(map(len, table)) < 2:
        return np.nan
    if shared:
        return stats.ttest_1samp(np.mean(table, axis=0), 0).pvalue
    squares = np.array([stats.sem(row) ** 2 for row in table])
    if squares.sum() == 0:
        return np.nan
    degrees = squares.sum() ** 2 / sum(square**2 / (len(row) - 1) for square, row in zip(squares, table))
    statistic = np.mean([np.mean(row) for row in table]) / (np.sqrt(squares.sum()) / len(table))
    return 2 * stats.t.sf(abs(statistic), degrees)


def holm(p_values):
    known = [place for place, p in enumerate(p_values) if not np.isnan(p)]
    corrected = [np.nan] * len(p_values)
    if known:
        for place, p in zip(known, multipletests([p_values[place] for place in known], method="holm")[1]):
            corrected[place] = p
    return corrected


def report(path):
    suite, scores, methods = read(path)
    shared, rows = suite in SHARED, []
    labels = list(scores)
    for place, baseline in enumerate(labels):
        if methods[baseline] not in BASELINES:
            continue
        for other, label in enumerate(labels):
            if other == place or (other < place and methods[label] in BASELINES):
                continue
            pairs = [key for key in scores[label] if key in scores[baseline]]
            sets = list(dict.fromkeys(key[0] for key in pairs))
            table = [[scores[label][key] - scores[baseline][key] for key in pairs if key[0] == name] for name in sets]
            flat = np.concatenate(table)
            error, p_set = by_set(table, shared)
            pooled = stats.ttest_1samp(flat, 0).pvalue if len(flat) > 1 and np.ptp(flat) else np.nan
            mean = np.mean([np.mean(row) for row in table])
            rows.append([f"{label} - {baseline}", mean, error, p_set, by_training(table, shared), pooled])
    for column in (3, 4, 5):
        for row, corrected in zip(rows, holm([row[column] for row in rows])):
            row[column] = corrected
    print(f"\n{path}\n\n| difference | mean ± se | p by set | p by training | p of pairs |\n|---|---:|---:|---:|---:|")
    text = lambda p: "-" if np.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}"
    for name, mean, error, *p_values in rows:
        print(f"| {name} | {mean:+.2f} ± {error:.2f} | " + " | ".join(map(text, p_values)) + " |")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        report(path)
