"""How the comparisons write their figures."""

import math
import statistics


def shown(x):
    """Three digits, or all of a whole number."""
    if x >= 1000:
        return f"{round(x, 2 - math.floor(math.log10(x))):,.0f}"
    return f"{x:.3g}"


def number(values):
    """The median, and the lowest and highest."""
    return f"{shown(statistics.median(values))} ({shown(min(values))}–{shown(max(values))})"
