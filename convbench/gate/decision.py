"""From log ratios, block by block, to verdicts: pure numbers in, verdicts out.

A block is one fresh pair of processes; its value is d = median log(head) - median log(base). Samples of one process are
correlated, so the block is the unit of inference, and all that is known of a cell is its few values of d. Screening
looks for suspects, cheaply; confirming measures suspects anew and asks Student's t, whose level holds for so few values
where a percentile bootstrap's does not. With several suspects Holm's step-down keeps the chance of any false red at
ALPHA (Holm, Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from convbench.gate.outcome import Verdict, percent

DELTA = {"cpu": 0.10, "cuda": 0.05}  # the slowdown that counts
FLOOR_S = {"cpu": 50e-6, "cuda": 2e-6}  # ... and how many seconds a call it must be at least
TIMER_TICKS = 3  # ... and how many ticks of the clock
ALPHA = 0.05
SCREENING, CONFIRMING = 3, 8  # blocks
SUSPICIOUS = 0.7  # share of log(1 + delta) that the median of the screening blocks may reach
AGREE = 0.75  # share of the confirming blocks that must lie beyond the threshold
POWER = 0.80  # with which the detectable slowdown would have been detected
FLOORS = 2  # delta is at least so many times the A/A floor
MEMORY_SHARE = ERROR_SHARE = 0.01  # memory and error are deterministic: more than this is worse
PEAK_SLACK_BYTES = 64 << 10  # the interpreter's own small change
ERROR_SLACK = 1e-9  # below float32's rounding: an exact zero may become this


@dataclass(frozen=True)
class Rules:
    """What counts as slower: more than delta, and more than floor_s seconds a call."""

    delta: float = DELTA["cpu"]
    floor_s: float = FLOOR_S["cpu"]

    @property
    def bound(self) -> float:
        """log(1 + delta)."""
        return math.log1p(self.delta)


@dataclass(frozen=True)
class Evidence:
    """What was measured of one cell: d of each screening and each confirming block, and base's seconds a call.

    control: its source is the same on both sides, so it cannot be slower.
    """

    screen: tuple[float, ...]
    confirm: tuple[float, ...] = ()
    base_s: float = math.inf
    control: bool = False

    @property
    def final(self) -> tuple[float, ...]:
        """The blocks that are judged: the fresh ones where there are any."""
        return self.confirm or self.screen


@dataclass(frozen=True)
class Judged:
    """A cell's verdict on time: ratio head / base with its 95 % interval, and the slowdown that would have shown."""

    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """What does not depend on the clock: bytes, and the error of the answer."""

    workspace_bytes: int
    prepared_bytes: int
    peak_bytes: int
    error: float


def rules_for(kind: str, delta: float | None = None, aa_floor: float | None = None, tick_s: float = 0.0) -> Rules:
    """The rules of a kind of device; delta is never below twice the A/A floor, a ratio of two equal sides less 1."""
    wanted = DELTA[kind] if delta is None else delta
    return Rules(max(wanted, FLOORS * (aa_floor or 0.0)), max(FLOOR_S[kind], TIMER_TICKS * tick_s))


def block_value(base: Sequence[float], head: Sequence[float]) -> float:
    """d of a block from seconds a call; NaN where any of them is no time."""
    from convbench.stats import median

    if not base or not head or any(not (math.isfinite(s) and s > 0) for s in (*base, *head)):
        return math.nan
    return median([math.log(s) for s in head]) - median([math.log(s) for s in base])


def suspects(screens: Mapping[str, Sequence[float]], rules: Rules) -> list[str]:
    """The cells that need confirming: those that look slower, and those that look faster, by SUSPICIOUS of delta."""
    from convbench.stats import median

    return [
        cell for cell, values in screens.items()
        if values and all(map(math.isfinite, values)) and abs(median(values)) > SUSPICIOUS * rules.bound
    ]  # fmt: skip


def decide(cells: Mapping[str, Evidence], rules: Rules) -> dict[str, Judged]:
    """The verdict of each cell. A control that fails makes every FAIL of the same run UNSTABLE."""
    from convbench.stats import median

    usable = {
        n: cell for n, cell in cells.items() if cell.screen and all(map(math.isfinite, cell.screen + cell.confirm))
    }
    suspicion = {name: median(cell.screen) for name, cell in usable.items() if cell.confirm}
    slower = holm({n: p_above(usable[n].final, rules.bound) for n, d in suspicion.items() if d > 0})
    faster = holm({n: p_above([-d for d in usable[n].final], rules.bound) for n, d in suspicion.items() if d <= 0})
    pooled = pooled_spread([cell.final for cell in usable.values()])
    tests = max(1, len([d for d in suspicion.values() if d > 0]))
    judged = {}
    for name, cell in cells.items():
        if name not in usable:
            judged[name] = Judged(Verdict.MISSING, reason="not measured, or a time that is no time")
            continue
        verdict, reason = _verdict(cell, rules, slower.get(name), faster.get(name))
        shows = detectable(cell.final, pooled, tests, rules, cell.base_s)
        judged[name] = Judged(verdict, *ratio_interval(cell.final), shows, reason)
    return _controlled(cells, judged)


def _verdict(cell: Evidence, rules: Rules, slower: bool | None, faster: bool | None) -> tuple[Verdict, str]:
    """slower, faster: whether Holm rejects "not slower (faster) than delta"; None: never suspected of it."""
    values, bound = cell.final, rules.bound
    if slower and agreement(values, bound) >= AGREE:
        loss = cell.base_s * math.expm1(sum(values) / len(values))
        if loss > rules.floor_s:
            return Verdict.FAIL, f"slower by more than {percent(rules.delta)}"
        return Verdict.OK, f"slower by {loss * 1e6:.0f} us a call; {rules.floor_s * 1e6:.0f} us do not count"
    if faster and agreement([-d for d in values], bound) >= AGREE:
        return Verdict.IMPROVED, ""
    if upper_bound(values) < bound:
        return Verdict.PASS, ""
    if slower is None:
        return Verdict.OK, ""
    beyond = f"{sum(d > bound for d in values)} of {len(values)} blocks beyond {percent(rules.delta)}"
    return Verdict.INCONCLUSIVE, f"suspected, not proven: {beyond}"


def _controlled(cells: Mapping[str, Evidence], judged: dict[str, Judged]) -> dict[str, Judged]:
    """Without trust in a run whose unchanged code came out slower."""
    red = [name for name, result in judged.items() if result.verdict is Verdict.FAIL]
    controls = [name for name in red if cells[name].control]
    if not controls:
        return judged
    for name in red:
        old = judged[name]
        why = "its source is the same on both sides" if name in controls else f"so came out {controls[0]}, unchanged"
        reason = f"{old.reason}, but {why}: the measurement cannot be believed"
        judged[name] = Judged(Verdict.UNSTABLE, old.ratio, old.low, old.high, old.detectable, reason)
    return judged


def holm(p_values: Mapping[str, float], alpha: float = ALPHA) -> dict[str, bool]:
    """Which hypotheses are rejected: the smallest p against alpha / m, the next against alpha / (m - 1), and so on."""
    rejected = dict.fromkeys(p_values, False)
    for i, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if not p <= alpha / (len(p_values) - i):
            break
        rejected[name] = True
    return rejected


def p_above(values: Sequence[float], bound: float) -> float:
    """One-sided Student t: how likely values with such a mean would be, were the true mean `bound`."""
    from scipy.stats import t

    count, mean, spread = len(values), sum(values) / len(values), standard_deviation(values)
    if count < 2:
        return 1.0
    if spread == 0:
        return 0.0 if mean > bound else 1.0
    return float(t.sf((mean - bound) / (spread / math.sqrt(count)), count - 1))


def upper_bound(values: Sequence[float]) -> float:
    """The one-sided 95 % upper bound of the mean; inf where one block says nothing about the next."""
    if len(values) < 2:
        return math.inf
    reach = t_quantile(1 - ALPHA, len(values) - 1) * standard_deviation(values) / math.sqrt(len(values))
    return sum(values) / len(values) + reach


def ratio_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """exp of the mean with its two-sided 95 % interval by Student's t; no interval for a single block."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return math.exp(mean), None, None
    reach = t_quantile(1 - ALPHA / 2, len(values) - 1) * standard_deviation(values) / math.sqrt(len(values))
    return math.exp(mean), math.exp(mean - reach), math.exp(mean + reach)


def agreement(values: Sequence[float], bound: float) -> float:
    """The share of blocks beyond the bound."""
    return sum(d > bound for d in values) / len(values)


def detectable(
    values: Sequence[float], pooled: float, tests: int, rules: Rules, base_s: float = math.inf
) -> float | None:
    """The slowdown that both stages would have found with probability POWER, from the spread of the blocks.

    Screening: the median of SCREENING blocks must pass the suspicion. Confirming: t at ALPHA / tests, and POWER of it
    again. Three blocks say little about their spread, so that of a cell counts as no less than the cells' together. And
    floor_s seconds a call must be lost at least.
    """
    from statistics import NormalDist

    spread = standard_deviation(values)
    if len(values) < CONFIRMING:
        spread = max(spread, pooled)
    if not math.isfinite(spread):
        return None
    median_error = math.sqrt(math.pi / 2 / SCREENING) * spread
    seen = SUSPICIOUS * rules.bound + NormalDist().inv_cdf(POWER) * median_error
    quantiles = t_quantile(1 - ALPHA / tests, CONFIRMING - 1) + t_quantile(POWER, CONFIRMING - 1)
    least = math.expm1(max(seen, rules.bound + quantiles * spread / math.sqrt(CONFIRMING)))
    return max(least, rules.floor_s / base_s)


def pooled_spread(groups: Sequence[Sequence[float]]) -> float:
    """The standard deviation within groups, all of them together; NaN where no group has two values."""
    freedom = sum(len(values) - 1 for values in groups if len(values) > 1)
    if not freedom:
        return math.nan
    squares = sum(standard_deviation(values) ** 2 * (len(values) - 1) for values in groups if len(values) > 1)
    return math.sqrt(squares / freedom)


def standard_deviation(values: Sequence[float]) -> float:
    """Of a sample, n - 1 in the denominator; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((d - mean) ** 2 for d in values) / (len(values) - 1))


@lru_cache(maxsize=256)
def t_quantile(share: float, freedom: int) -> float:
    """Of Student's t."""
    from scipy.stats import t

    return float(t.ppf(share, freedom))


def worse(base: Facts, head: Facts) -> str:
    """What of head's memory and error is worse by more than it may be, in words; "" where nothing is."""
    from convbench.units import error, size

    found = []
    for words, old, new, slack in (
        ("workspace", base.workspace_bytes, head.workspace_bytes, 0),
        ("prepared filters", base.prepared_bytes, head.prepared_bytes, 0),
        ("peak", base.peak_bytes, head.peak_bytes, PEAK_SLACK_BYTES),
    ):
        if new > old * (1 + MEMORY_SHARE) + slack:
            found.append(f"{words} {size(new)} instead of {size(old)}")
    if not head.error <= base.error * (1 + ERROR_SHARE) + ERROR_SLACK:
        found.append(f"error {error(head.error, 2)} instead of {error(base.error, 2)}")
    return ", ".join(found)
