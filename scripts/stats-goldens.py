"""Writes tests/fixtures/stats.json: the statistics of src/stats as SciPy and statsmodels compute them.

usage: pip install scipy==1.17.1 statsmodels==0.15.0 && python scripts/stats-goldens.py > tests/fixtures/stats.json
"""
import json
import warnings

import numpy as np
from scipy import optimize, stats
from statsmodels.api import OLS, Logit, add_constant
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

warnings.simplefilter("ignore")
rng = np.random.default_rng(20261123)


def scores(n, levels):
    """Means of a few pass/fail instructions: many ties, as real scores have."""
    return (rng.integers(0, levels + 1, n) / levels).tolist()


def wilcoxon(d):
    """By what src/stats promises; SciPy's own choice of method has changed between versions."""
    moved = d[d != 0]
    exact = len(moved) == len(d) <= 50 and len(np.unique(np.abs(moved))) == len(moved)
    return stats.wilcoxon(d, method="exact" if exact else "asymptotic").pvalue if len(moved) else 1.0


def paired(n, levels, shift):
    a = np.array(scores(n, levels))
    b = np.clip(a + shift * rng.integers(-1, 3, n) / levels, 0, 1)
    d = np.round(b - a, 12)  # ties of fractions, as src/stats sees them
    whole = np.round(d * 10 * levels)  # in whole numbers SciPy sees every tie of sums
    test = stats.permutation_test((whole,), np.sum, permutation_type="samples", n_resamples=np.inf if n <= 18 else 200_000, rng=1)
    bca = stats.bootstrap((d,), np.mean, n_resamples=200_000, method="BCa", rng=1).confidence_interval
    same = np.all(d == d[0])
    return {
        "a": a.tolist(), "b": b.tolist(), "difference": d.mean(), "sd": d.std(ddof=1), "skewness": stats.skew(d),
        "low": d[0] if same else bca.low, "high": d[0] if same else bca.high,
        "p_permutation": test.pvalue, "exact": bool(n <= 18),
        "p_wilcoxon": wilcoxon(d),
        "cliffs_delta": float(np.mean(np.sign(np.round(b[:, None] - a[None, :], 12)))),
    }


def continuous(n):
    a, b = rng.normal(size=n), rng.normal(0.4, 1.3, size=n)
    return {"a": a.tolist(), "b": b.tolist(), "p_wilcoxon": wilcoxon(b - a)}


def regression(n, slope, ratios):
    """Logit with standard errors robust to clusters of observations; t with one less than their number."""
    cluster = rng.integers(0, max(5, n // 8), n)
    luck = rng.normal(size=n)[cluster]
    held = rng.choice(ratios, n)
    x = np.round(rng.random(n), 3)
    y = rng.random(n) < 1 / (1 + np.exp(-(slope * x - 1 + luck - held)))
    columns = [x, held - held.mean()] if len(ratios) > 1 else [x]
    fit = Logit(y.astype(float), add_constant(np.column_stack(columns))).fit(
        disp=0, tol=1e-14, method="newton", cov_type="cluster", cov_kwds={"groups": cluster})
    half = stats.t.ppf(0.975, len(set(cluster)) - 1) * fit.bse[1]
    return {"x": x.tolist(), "held": held.tolist(), "y": y.tolist(), "cluster": cluster.tolist(), "intercept": fit.params[0],
            "slope": fit.params[1], "slope_se": fit.bse[1], "low": fit.params[1] - half, "high": fit.params[1] + half}


def clustered(g, luck):
    """A proportion by the cluster-robust variance of a mean, and the score interval of as many independent observations by
    solving for its ends."""
    sizes = rng.integers(1, 5, g)
    passed = [int(rng.binomial(m, p)) for m, p in zip(sizes, rng.beta(luck, luck, g))]
    y = np.concatenate([[1.0] * k + [0.0] * (m - k) for k, m in zip(passed, sizes)])
    groups = np.repeat(np.arange(g), sizes)
    fit = OLS(y, np.ones(len(y))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    p, t = y.mean(), stats.t.ppf(0.975, g - 1)
    n = min(p * (1 - p) / fit.bse[0] ** 2, len(y))
    ends = lambda pi: (p - pi) ** 2 - t * t * pi * (1 - pi) / n
    return {"clusters": [[k, int(m)] for k, m in zip(passed, sizes)], "low": optimize.brentq(ends, 0, p, xtol=1e-15),
            "high": optimize.brentq(ends, p, 1, xtol=1e-15)}


def table(a, b):
    both = [[sum(x == i and y == j for x, y in zip(a, b)) for j in (True, False)] for i in (True, False)]
    return {"a": a, "b": b, "kappa": cohens_kappa(np.array(both)).kappa}


def sequence(x, alpha):
    """Hedged capital confidence sequence of Waudby-Smith & Ramdas (2024), straight from the paper: at every time the
    whole product anew, and its ends by root finding. src/stats rounds them outwards to thousandths."""
    x = (np.array(x) + 1) / 2
    n, t = len(x), np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = np.append(0.25, (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1))[:n]
    bet = np.sqrt(2 * np.log(2 / alpha) / (variance * t * np.log(t + 1)))
    up = lambda m, n: np.sum(np.log1p(np.minimum(bet[:n], 0.5 / m) * (x[:n] - m))) - np.log(2 / alpha)
    down = lambda m, n: np.sum(np.log1p(-np.minimum(bet[:n], 0.5 / (1 - m)) * (x[:n] - m))) - np.log(2 / alpha)
    tiny, low, high, path = 1e-9, 0.0, 1.0, []
    for n in t:
        if up(tiny, n) > 0:
            low = max(low, optimize.brentq(up, tiny, 1 - tiny, args=(n,), xtol=1e-14))
        if down(1 - tiny, n) > 0:
            high = min(high, optimize.brentq(down, tiny, 1 - tiny, args=(n,), xtol=1e-14))
        path.append([np.floor(low * 2000) / 1000 - 1, np.ceil(high * 2000) / 1000 - 1])
    return {"x": (2 * x - 1).tolist(), "level": 1 - alpha, "path": np.round(path, 12).tolist()}


def earned(n, n_types, share_donors):
    """The earned score from its definition, and the infinitesimal jackknife of it by complex-step derivatives: what src/stats
    has in closed form. Everything is a function of weights on examples, which weigh as askers and as donors."""
    asks = [rng.choice(n_types, rng.integers(0, 4), replace=False).tolist() for _ in range(n)]
    rules = [(i, t, [k for k in range(n) if t not in asks[k] and rng.random() < share_donors]) for i in range(n) for t in asks[i]]
    rules = [rule for rule in rules if rule[2]]
    both = [[[int(rng.random() < q) for _ in range(n)] for _ in rules] for q in (0.3, 0.6)]  # verdict of rule on answer
    of = [[r for r, rule in enumerate(rules) if rule[0] == i] for i in range(n)]
    asking = [i for i in range(n) if of[i]]
    takes_part = sorted(set(asking) | {k for _, _, donors in rules for k in donors})
    def values(v, w):
        total = sum(w[i] for i in asking)
        p = sum(w[i] * np.mean([v[r][i] for r in of[i]]) for i in asking) / total
        chance = lambda r: sum(w[k] * v[r][k] for k in rules[r][2]) / sum(w[k] for k in rules[r][2])
        q = sum(w[i] * sum(chance(r) for r in of[i]) / len(of[i]) for i in asking) / total
        return [p, q, (p - q) / (1 - q)]
    def estimates(v):
        point, size = values(v, np.ones(n)), len(takes_part)
        steps = [values(v, np.ones(n) + 1e-20j * (np.arange(n) == k)) for k in takes_part]
        influence = np.array([[value.imag / 1e-20 * size for value in step] for step in steps])
        half = stats.t.ppf(0.975, size - 1) * influence.std(axis=0, ddof=1) / np.sqrt(size)
        return [[point[j], point[j] - half[j], point[j] + half[j]] for j in range(3)]
    w = {r: 1 / (len(asking) * len(of[rules[r][0]])) for r in range(len(rules))}
    own = [[sum(w[r] * v[r][k] for r in of[k]) for k in range(n)] for v in both]
    don = [[sum(w[r] * v[r][k] / len(rules[r][2]) for r in range(len(rules)) if k in rules[r][2]) for k in range(n)] for v in both]
    (pa, qa), (pb, qb) = [(sum(own[c]), sum(don[c])) for c in (0, 1)]
    pm, qm = (pa + pb) / 2, (qa + qb) / 2
    d = [len(takes_part) * ((1 - qm) * (own[1][k] - own[0][k]) - (1 - pm) * (don[1][k] - don[0][k])) / ((1 - qa) * (1 - qb)) for k in takes_part]
    return {"n": n, "rules": [[i, donors] for i, _, donors in rules], "verdicts": both, "estimates": [estimates(v) for v in both],
            "d": d, "t": list(stats.t.interval(0.9, len(d) - 1, np.mean(d), stats.sem(d)))}


def slopes(n, doses):
    """Slopes by linregress; p by all sign patterns where reversing labels reverses the slope (in whole numbers, where ties are
    seen), else by many permutations."""
    values = rng.integers(0, 4, (n, len(doses))) / 3
    each = np.array([stats.linregress(doses, row).slope for row in values])
    doses = np.array(doses)
    symmetric = bool(np.allclose(doses + doses[::-1], doses[0] + doses[-1]))
    if symmetric:
        p = stats.permutation_test((np.round(30 * each),), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    else:
        weights = (doses - doses.mean()) / np.sum((doses - doses.mean()) ** 2)
        sums = [(rng.permuted(values, axis=1) @ weights).sum() for _ in range(40_000)]
        p = np.mean(np.abs(sums) >= abs(each.sum()) - 1e-9)
    return {"doses": doses.tolist(), "values": values.tolist(), "slopes": each.tolist(), "p": float(p), "symmetric": symmetric}


p = rng.random(12).tolist() + [0.001, 0.002, 0.002]
print(json.dumps(default=lambda value: value.tolist(), obj={
    "paired": [paired(n, levels, shift) for n, levels, shift in [(10, 4, 1), (15, 3, 1), (18, 5, 0.5), (40, 4, 1), (120, 5, 0.4)]],
    "continuous": [continuous(n) for n in (6, 20, 50, 51, 200)],
    "logistic": [regression(n, slope, ratios) for n, slope, ratios in [(80, 2, [0.5]), (400, -2, [0.25, 0.5, 0.75]), (1000, 0.2, [0.1, 0.9])]],
    "clustered": [clustered(g, luck) for g, luck in [(6, 0.5), (30, 1), (200, 3)]],
    "holm": {"p": p, "corrected": multipletests(p, method="holm")[1].tolist()},
    "kappa": [table(*[(rng.random(50) < q).tolist() for q in pair]) for pair in [(0.5, 0.5), (0.9, 0.8)]],
    "sequence": [sequence(x, alpha) for x, alpha in [
        (np.round(rng.choice([0, 0, 0, 0.5, -0.5, -1], 150), 12), 0.05),
        (rng.choice([0, -1], 120, p=[0.97, 0.03]), 0.05 / 7), (np.zeros(40), 0.05), (np.ones(12), 0.05), (rng.uniform(-1, 0.6, 80), 0.2)]],
    # statsmodels' noncentral t; ours is the usual approximation to it.
    "power": [[sd, n, float(np.squeeze(TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8))) * sd] for sd, n in [(0.3, 10), (0.25, 30), (0.4, 120)]],
    "earned": [earned(12, 6, 1.0), earned(9, 4, 0.5)],
    "means": [{"values": v.tolist(), "interval": list(stats.t.interval(0.95, len(v) - 1, v.mean(), stats.sem(v)))} for v in [rng.random(n) for n in (2, 7, 29)]],
    "slopes": [slopes(n, doses) for n, doses in [(12, [0, 0.25, 0.5, 0.75]), (9, [0, 0.5]), (14, [0, 0.5, 0.75, 0.9])]],
}))
