"""scikit-learn: `MLPClassifier` and `MLPRegressor`, estimators like those of `sklearn.neural_network`.

Shells over the pure functions: `fit` is `fnet.fit`, `partial_fit` is `fnet.train_step`, and predictions are those of
`fnet.model`. Importing this module imports scikit-learn. Parameters have scikit-learn's names where its estimators have
them, and those of `fnet.MLPConfig` and `fnet.TrainConfig` otherwise. The parameters of both:

- hidden_layer_sizes: widths of the hidden layers; `()` is softmax or linear regression.
- activation: one of `fnet.nn.ACTIVATIONS`.
- batch_norm: batch norm in each hidden layer.
- dropout: the share of hidden units that is dropped in training.
- solver: "adam", or "sgd" with a momentum of 0.9.
- learning_rate_init: the learning rate; with a schedule, its peak.
- schedule: of the learning rate over `max_iter` epochs: "constant", "cosine", "warmup_cosine" or "onecycle".
- b2: of Adam, see `fnet.adam_update`.
- weight_decay: decoupled, see `fnet.adam_update`.
- batch_size: rows per step, at most all; "auto" is 64.
- max_iter: the number of epochs.
- standardize: standardize the features with the unweighted means and standard deviations of the training rows (of the
  first call, in `partial_fit`); without it, put a `StandardScaler` in front.
- early_stopping: set a stratified `validation_fraction` of the rows aside, stop after `n_iter_no_change` epochs without
  a lower loss on them, and keep the parameters of the best epoch; in `fit` only.
- validation_fraction, n_iter_no_change: see `early_stopping`.
- warm_start: `fit` of a fitted estimator begins with its parameters, and keeps its scaling and its curves; the schedule
  and the state of the optimizer begin anew.
- verbose: print a line per epoch of `fit`.
- engine: of `fit`: "numpy"; "numba", several times as fast on small networks; or "auto", Numba where it is installed.
  The two agree to rounding.
- random_state: an int makes everything reproducible, to the bit, with one engine on one machine.

Fitted on float32, the network computes in float32; fitted on anything else, in float64, like scikit-learn's, in up to
twice the time. The attributes of both:

- model_: a `fnet.Model` of raw features, for `fnet.model.save_model`, `fnet.interop.onnx`, `fnet.interop.safetensors`.
- n_features_in_, feature_names_in_: as everywhere in scikit-learn.
- n_iter_: the number of epochs trained.
- loss_curve_: the training loss of each epoch.
- validation_losses_, validation_scores_: with `early_stopping` the loss and the score on the validation rows after each
  epoch, otherwise None.
"""

import importlib

from fnet.interop import missing

try:
    importlib.import_module("sklearn")
except ImportError:
    raise missing("MLPClassifier", "scikit-learn", "sklearn") from None

from fnet.interop.sklearn.classifier import MLPClassifier
from fnet.interop.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
