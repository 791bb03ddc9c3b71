"""How far a synthetic set is from the real one, and whether it merely copies it.

Every function takes rows of numbers, images or embeddings alike: an array whose further axes are
flattened, the real set first. All arithmetic is in float64, on as many rows at a time as
scikit-learn's ``working_memory`` allows, and on `max_samples` rows where that is a parameter. Time
grows linearly with the real set: what would take all pairs of real rows is estimated, without bias,
from `max_samples` of them at a time.
"""

from skdistill.metrics.angles import diversity, representativeness
from skdistill.metrics.balls import coverage, density
from skdistill.metrics.comparison import compare_sets
from skdistill.metrics.copies import CopyingCheck, copying
from skdistill.metrics.frechet import fid, frechet_distance
from skdistill.metrics.means import mean_cosine, mean_distance, mmd

__all__ = [
    "CopyingCheck",
    "compare_sets",
    "copying",
    "coverage",
    "density",
    "diversity",
    "fid",
    "frechet_distance",
    "mean_cosine",
    "mean_distance",
    "mmd",
    "representativeness",
]
