"""Floor 5: what is known of the deltas between a base and an expert without reading either.

Relies on kernels, dtypes, store and records. Promises: `observe` is pure; rows become columns and columns
rows without loss; the same pair of manifests gives the same record on any machine.
"""

from mpstore.statistics.columns import DeltaStatistics, from_columns, ref_name, to_columns
from mpstore.statistics.distances import Distances, distances_ref
from mpstore.statistics.gather import Collector
from mpstore.statistics.histogram import Bin, Histogram
from mpstore.statistics.observe import SKETCH_WIDTH, Row, observe, observe_many, observe_raw

__all__ = [
    "SKETCH_WIDTH",
    "Bin",
    "Collector",
    "DeltaStatistics",
    "Distances",
    "Histogram",
    "Row",
    "distances_ref",
    "from_columns",
    "observe",
    "observe_many",
    "observe_raw",
    "ref_name",
    "to_columns",
]
