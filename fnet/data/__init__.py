"""Data sets: reading, encoding and splitting tables, batching, and the scaling of features."""

from fnet.data.arrays import encode_labels, load, load_features
from fnet.data.dataset import (
    Classes,
    Dataset,
    Labels,
    absent_classes,
    batch_slices,
    batches,
    check_mapped,
    digits,
    even_batch_size,
    fingerprint,
    gather,
    num_rows,
    synthetic,
    take,
    train_test_split,
)
from fnet.data.delimited import read_table
from fnet.data.encoder import (
    EncodedColumn,
    Encoder,
    encoder_from_json,
    encoder_to_json,
    feature_names,
    numeric_features,
    text_columns,
)
from fnet.data.encoding import EncodeNotes, encode
from fnet.data.features import Standardizer, fit_standardizer, standardize
from fnet.data.fitting import fit_encoder
from fnet.data.frames import from_columns
from fnet.data.summary import describe, describe_numbers
from fnet.data.tables import Column, Table, drop_columns, take_rows
from fnet.data.target_scale import TargetScale, fit_target_scale, scale_targets, unscale_outputs
from fnet.data.targets import Target, TargetGuess, guess_target, labels_of, split_target, values_of

__all__ = [
    "Classes",
    "Column",
    "Dataset",
    "EncodeNotes",
    "EncodedColumn",
    "Encoder",
    "Labels",
    "Standardizer",
    "Table",
    "Target",
    "TargetGuess",
    "TargetScale",
    "absent_classes",
    "batch_slices",
    "batches",
    "check_mapped",
    "describe",
    "describe_numbers",
    "digits",
    "drop_columns",
    "encode",
    "encode_labels",
    "encoder_from_json",
    "encoder_to_json",
    "even_batch_size",
    "feature_names",
    "fingerprint",
    "fit_encoder",
    "fit_standardizer",
    "fit_target_scale",
    "from_columns",
    "gather",
    "guess_target",
    "labels_of",
    "load",
    "load_features",
    "num_rows",
    "numeric_features",
    "read_table",
    "scale_targets",
    "split_target",
    "standardize",
    "synthetic",
    "take",
    "take_rows",
    "text_columns",
    "train_test_split",
    "unscale_outputs",
    "values_of",
]
