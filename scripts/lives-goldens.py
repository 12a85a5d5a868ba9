"""Writes tests/fixtures/lives.json: Kaplan-Meier curves and log-rank tests of src/stats as lifelines computes them.

usage: pip install lifelines==0.30.3 && python scripts/lives-goldens.py > tests/fixtures/lives.json
"""
import json
import warnings

import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test

warnings.simplefilter("ignore")
rng = np.random.default_rng(20261125)


def lives(n, last, hazard):
    """Times from 0 on, and whether it ended there; many ties, as turns of chats have."""
    times = np.minimum(rng.geometric(hazard, n) - 1, last)
    seen_until = rng.integers(0, last + 1, n)
    return np.minimum(times, seen_until), times <= seen_until


def case():
    last = int(rng.integers(1, 12))
    a, b = (lives(int(rng.integers(3, 40)), last, rng.uniform(0.03, 0.6)) for _ in range(2))
    fit = KaplanMeierFitter().fit(*a)
    times = range(int(a[0].max()) + 1)
    bounds = fit.confidence_interval_survival_function_
    at = lambda series: [float(series[series.index <= time].iloc[-1]) for time in times]
    test = logrank_test(a[0], b[0], a[1], b[1])
    known = lambda values: [None if np.isnan(value) else value for value in values]
    pairs = lambda group: [[int(time), bool(ended)] for time, ended in zip(*group)]
    return dict(a=pairs(a), b=pairs(b), whole=at(fit.survival_function_.iloc[:, 0]), low=known(at(bounds.iloc[:, 0])),
                high=known(at(bounds.iloc[:, 1])), chi_square=known([test.test_statistic])[0], p=known([test.p_value])[0])


print("[\n" + ",\n".join(json.dumps(case()) for _ in range(500)) + "\n]")
