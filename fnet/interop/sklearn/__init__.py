"""scikit-learn: `MLPClassifier` and `MLPRegressor`, estimators like those of `sklearn.neural_network`.

The estimators are thin wrappers: `fit` calls `fnet.fit`, `partial_fit` calls `fnet.train_step`, and predictions come
from `fnet.model`. Importing this module imports scikit-learn. Parameters have the names of scikit-learn's estimators if
these have them, and otherwise those of `fnet.MLPConfig` and `fnet.TrainConfig`. The parameters of both estimators:

- hidden_layer_sizes: widths of the hidden layers; `()` is softmax or linear regression.
- activation: one of `fnet.nn.ACTIVATIONS`.
- batch_norm: batch norm in each hidden layer.
- dropout: the fraction of hidden units that is dropped in training.
- solver: "adam", "sgd" with a momentum of 0.9, or "lbfgs", which is for small data and uses all rows in each iteration.
- learning_rate_init: the learning rate; with a schedule, its peak. "lbfgs" ignores it, `schedule` and `b2`.
- schedule: of the learning rate over `max_iter` epochs: "constant", "cosine", "warmup_cosine" or "onecycle".
- b2: the decay rate of Adam's second moment, see `fnet.adam_update`.
- weight_decay: decoupled, only for weight matrices, see `fnet.adam_update`; "auto" is the smaller of 1.5 and
  (370 / rows) ** 1.5, and 0 with SGD and in `partial_fit`, which gets only some of the rows. With "lbfgs", it is an L2
  penalty on all parameters, see `fnet.TrainConfig`: the `alpha` of scikit-learn divided by the total row weight;
  "auto" is 4 divided by that weight.
- batch_size: rows per step, at most all rows; "auto" is a quarter of the rows, from 32 to 64, adjusted for a large last
  batch by `fnet.data.even_batch_size`. With "lbfgs", the rows in memory at a time; "auto" is 1024.
- max_iter: the number of epochs; with "lbfgs", the largest number of iterations.
- tol: "lbfgs" stops when no element of the gradient exceeds it in absolute value.
- standardize: standardize the features with the unweighted means and standard deviations of the training rows (in
  `partial_fit`, of the first call). Otherwise, use a `StandardScaler`.
- early_stopping: hold out a stratified `validation_fraction` of the rows, stop after `n_iter_no_change` epochs without
  a lower loss on them, and keep the parameters of the best epoch; only in `fit`.
- validation_fraction, n_iter_no_change: see `early_stopping`.
- warm_start: `fit` of a fitted estimator starts from its parameters and keeps its scaling and its curves. The schedule
  and the state of the optimizer start anew.
- verbose: print a line per epoch in `fit`.
- engine: the engine of `fit`: "numpy"; "numba", several times as fast on small networks; or "auto", Numba if it is
  installed. The two agree to rounding.
- random_state: an int makes the results reproducible to the bit, with the same engine on the same machine.

Fitted on float32 data, the network computes in float32. Fitted on other data it computes in float64, like scikit-learn,
which takes up to twice the time. The attributes of both estimators:

- model_: a `fnet.Model` of raw features, for `fnet.model.save_model`, `fnet.interop.onnx`, `fnet.interop.safetensors`.
- n_features_in_, feature_names_in_: as in all estimators of scikit-learn.
- n_iter_: the number of epochs trained.
- loss_curve_: the training loss of each epoch.
- validation_losses_, validation_scores_: with `early_stopping`, the loss and the score on the validation rows after
  each epoch; otherwise None.
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
