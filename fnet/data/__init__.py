"""Data sets: reading, splitting, batching, and the scaling of features."""

from fnet.data.dataset import (
    Classes,
    Dataset,
    Labels,
    batch_slices,
    batches,
    digits,
    fingerprint,
    gather,
    num_rows,
    synthetic,
    take,
    train_test_split,
)
from fnet.data.features import (
    RobustScaler,
    Standardizer,
    fit_robust_scaler,
    fit_standardizer,
    robust_scale,
    standardize,
)
from fnet.data.arrays import (
    encode_labels,
    load,
    load_features,
)

__all__ = [
    "Classes",
    "Dataset",
    "Labels",
    "RobustScaler",
    "Standardizer",
    "batch_slices",
    "batches",
    "digits",
    "encode_labels",
    "fingerprint",
    "fit_robust_scaler",
    "fit_standardizer",
    "gather",
    "load",
    "load_features",
    "num_rows",
    "robust_scale",
    "standardize",
    "synthetic",
    "take",
    "train_test_split",
]
