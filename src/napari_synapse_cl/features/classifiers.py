"""Classifiers of vectors that are taught by a few labels, and kept in a file without pickle.

A logistic regression whose probabilities are calibrated is its coefficients; a Gaussian process is
the few vectors that it was taught on and the parameters of its kernel, from which it is made anew.
No PyTorch in here, and scikit-learn is imported late.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_synapse_cl.errors import InputError, disk_in_words, reason
from napari_synapse_cl.features.vectors import ROWS_AT_ONCE, Scaling, VectorTable
from napari_synapse_cl.system.files import check_unpacked, replacing
from napari_synapse_cl.system.words import listing

Kind = Literal["logistic", "gaussian_process"]
Fold = tuple[np.ndarray, np.ndarray]
FEW = 50
"""Labels below which a Gaussian process is taught: it says better how little it knows."""
PENALTY = 5.0
"""Inverse weight of the penalty of a logistic regression, on vectors of mean square length 1."""
N_FOLDS = 5
FORMAT = "napari-synapse-cl classifier 1"
SAME_VOXEL_SIZE = 0.1
"""Relative difference of voxel sizes below which a network sees the same."""
DECISIVE = ("keep", "intensity", "percentiles", "invert", "presynaptic_shift", "averaging")
"""Settings that change the vectors of the same crops throughout."""


@dataclass(frozen=True)
class Classifier:
    """Tells the class of vectors of C numbers, with a probability for each of K classes."""

    kind: Kind
    classes: tuple[str, ...]
    scaling: Scaling
    arrays: dict[str, np.ndarray]
    """Of a logistic regression ``coefficients`` ``(1 or K, C)`` and ``offsets``, and where it is
    calibrated the ``slopes`` and ``shifts`` of a sigmoid on what they give. Of a Gaussian process
    the scaled ``vectors`` ``(n, C)``, the ``numbers`` of their classes, and ``kernels``
    ``(1 or K, 2)``: variance and length."""

    @property
    def is_calibrated(self) -> bool:
        """Whether probabilities were fitted to what is told of labels that were held out."""
        return "slopes" in self.arrays

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Return ``(N, K)`` float64 of vectors ``(N, C)``, which are finite."""
        step = ROWS_AT_ONCE if self.kind == "logistic" else ROWS_AT_ONCE // 16
        parts = [np.empty((0, len(self.classes)))]
        tell = self._logistic if self.kind == "logistic" else self._process()
        for i in range(0, len(values), step):
            parts.append(tell(self.scaling.apply(values[i : i + step]).astype(np.float64)))
        return np.concatenate(parts)

    def _logistic(self, scaled: np.ndarray) -> np.ndarray:
        from scipy.special import expit, softmax

        told = scaled @ self.arrays["coefficients"].T + self.arrays["offsets"]
        if not self.is_calibrated:
            return softmax(told, axis=1) if told.shape[1] > 1 else _of_two(expit(told))
        told = expit(-(self.arrays["slopes"] * told + self.arrays["shifts"]))
        return _of_two(told) if told.shape[1] == 1 else _normalised(told)

    def _process(self) -> Any:
        processes = [
            _process_of(kernel, fitted=True).fit(self.arrays["vectors"], is_one)
            for kernel, is_one in zip(
                self.arrays["kernels"],
                _one_by_one(self.arrays["numbers"], len(self.classes)),
                strict=True,
            )
        ]

        def tell(scaled: np.ndarray) -> np.ndarray:
            told = np.stack([one.predict_proba(scaled)[:, 1] for one in processes], axis=1)
            return _of_two(told) if len(processes) == 1 else _normalised(told)

        return tell


def teach(
    values: np.ndarray,
    labels: np.ndarray,
    sizes: Sequence[int],
    *,
    kind: Kind | Literal["auto"] = "auto",
    folds: Sequence[Fold] = (),
) -> Classifier:
    """Return a classifier that has learnt labels.

    Parameters
    ----------
    values
        ``(n, C)`` float32, finite.
    labels
        ``(n,)`` strings of at least two classes.
    sizes
        Channels of each of the vectors that are joined.
    kind
        "auto" is a Gaussian process below 50 labels.
    folds
        Parts of the rows, each of which is held out once: by what is told of them probabilities of
        the logistic regression are calibrated. Without any, parts are drawn that hold all classes
        alike, where there are enough labels.
    """
    if kind == "auto":
        kind = "gaussian_process" if len(labels) < FEW else "logistic"
    scaling = Scaling.of(values, sizes)
    scaled = scaling.apply(values).astype(np.float64)
    classes, numbers = np.unique(labels, return_inverse=True)
    fit = _fit_process if kind == "gaussian_process" else _fit_logistic
    arrays = fit(scaled, numbers, len(classes), folds)
    return Classifier(kind, tuple(classes.tolist()), scaling, arrays)


def _fit_logistic(
    scaled: np.ndarray, numbers: np.ndarray, n_classes: int, folds: Sequence[Fold]
) -> dict[str, np.ndarray]:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    model = LogisticRegression(C=PENALTY, max_iter=10_000)
    least = int(np.bincount(numbers).min())
    found: dict[str, np.ndarray] = {}
    if folds or least > 1:
        parts = list(folds) or StratifiedKFold(min(N_FOLDS, least), shuffle=True, random_state=0)
        calibrated = CalibratedClassifierCV(model, method="sigmoid", cv=parts, ensemble=False)
        [fitted] = calibrated.fit(scaled, numbers).calibrated_classifiers_
        model = fitted.estimator
        found["slopes"] = np.array([one.a_ for one in fitted.calibrators])
        found["shifts"] = np.array([one.b_ for one in fitted.calibrators])
    else:
        model = model.fit(scaled, numbers)
    return {"coefficients": model.coef_, "offsets": model.intercept_, **found}


def _fit_process(
    scaled: np.ndarray, numbers: np.ndarray, n_classes: int, folds: Sequence[Fold]
) -> dict[str, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning

    kernels = []
    for is_one in _one_by_one(numbers, n_classes):
        with warnings.catch_warnings():
            # A parameter at its bound is no fault: so few labels may say nothing of it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = _process_of((1.0, 1.0), fitted=False).fit(scaled, is_one)
        kernels.append(np.exp(fitted.kernel_.theta))
    return {"vectors": scaled, "numbers": numbers, "kernels": np.array(kernels)}


def _process_of(kernel: Sequence[float] | np.ndarray, *, fitted: bool) -> Any:
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    variance, length = map(float, kernel)
    form = ConstantKernel(variance, (1e-2, 1e3)) * RBF(length, (5e-2, 2e1))
    return GaussianProcessClassifier(form, optimizer=None if fitted else "fmin_l_bfgs_b")


def _one_by_one(numbers: np.ndarray, n_classes: int) -> list[np.ndarray]:
    """Return which rows are of each class; of two classes of the second alone."""
    return [numbers == number for number in (range(n_classes) if n_classes > 2 else [1])]


def _of_two(second: np.ndarray) -> np.ndarray:
    return np.concatenate([1 - second, second], axis=1)


def _normalised(told: np.ndarray) -> np.ndarray:
    total = told.sum(axis=1, keepdims=True)
    # As scikit-learn has it: what is of no class may be of any.
    return np.where(total > 0, told / np.where(total > 0, total, 1), 1 / told.shape[1])


def identity_of(table: VectorTable) -> dict[str, Any]:
    """Return what another table must have in common for a classifier to mean the same there.

    In plain types, by a name in words: the vectors, whose names say layer and pooling, and of each
    the network, voxel size, crop size and how crops are made, as far as that is known.
    """
    found: dict[str, Any] = {"vectors": list(table.names), "numbers": list(table.sizes)}
    for name in table.names:
        record = table.record_of(name)
        settings = record.get("settings", {})
        by_hand = name.startswith("hand")
        about = {
            "network": None if by_hand else record.get("sha256", record.get("seed")),
            "voxel size": record.get("voxel_size"),
            "crop size": record.get("crop_size"),
            "descriptors": record.get("descriptors") if by_hand else None,
            **{one: settings[one] for one in DECISIVE if one in settings},
        }
        found[name] = about
    return found


def check_identity(
    taught: dict[str, Any], table: VectorTable, path: Path | str, classifier: Path
) -> list[str]:
    """Check that a classifier means the same on a table, and return what is not known of that.

    Parameters
    ----------
    taught
        The identity of the table that it was taught on.
    path
        How to call the table in messages.

    Raises
    ------
    InputError
        If it does not, saying in one line what is another.
    """
    here, unknown = identity_of(table), []
    if here["numbers"] != taught["numbers"]:
        raise InputError(
            f"{classifier} was taught on vectors of {listing(list(map(str, taught['numbers'])))} "
            f"numbers, and those of {path} have {listing(list(map(str, here['numbers'])))}"
        )
    for name in taught["vectors"]:
        there, own = taught[name], here[name]
        for what in dict.fromkeys([*there, *own]):
            was, now = there.get(what), own.get(what)
            if _is_same(what, was, now):
                continue
            if what in DECISIVE and (was is None or now is None):
                unknown.append(what)
                continue
            raise InputError(
                f"{classifier} cannot be applied to {path}, whose vectors {name} mean something "
                f"else: where it was taught, the {what} was {_shown(was)}, and here it is "
                f"{_shown(now)}"
            )
    return list(dict.fromkeys(unknown))


def unknown_in_words(unknown: list[str]) -> str:
    """Say what :func:`check_identity` returns."""
    verb = "is what it was" if len(unknown) == 1 else "are what they were"
    return f"whether {listing(unknown)} {verb} where the classifier was taught is not known"


def _is_same(what: str, was: Any, now: Any) -> bool:
    if what == "voxel size" and was is not None and now is not None:
        return bool(np.allclose(was, now, rtol=SAME_VOXEL_SIZE))
    return bool(was == now)


def _shown(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if isinstance(value, list):
        return " × ".join(map(str, value))
    return str(value)[:12]


def save(classifier: Classifier, about: dict[str, Any], path: Path) -> None:
    """Write a classifier, and what to know of it, to an ``.npz`` file, whole or not at all.

    Parameters
    ----------
    about
        Its ``identity`` and whatever else, of JSON's types.

    Raises
    ------
    JobError
        If it cannot be written.
    """
    content = {"format": FORMAT, "kind": classifier.kind, "classes": classifier.classes, **about}
    with (
        disk_in_words(lambda error: f"cannot write the classifier {path}: {reason(error)}"),
        replacing(path) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(
            file,
            allow_pickle=False,
            about=np.array(json.dumps(content)),
            mean=classifier.scaling.mean,
            factor=classifier.scaling.factor,
            **classifier.arrays,
        )


def load(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """Read a classifier that :func:`save` wrote; nothing in the file is run.

    Returns
    -------
    classifier, about
        The classifier, and what was written of it.

    Raises
    ------
    InputError
        If it cannot be read, is none, or damaged.
    """
    if not path.is_file():
        raise InputError(f"there is no classifier {path}")
    try:
        check_unpacked(path)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        scaling = Scaling(arrays.pop("mean"), arrays.pop("factor"))
        if about["format"] != FORMAT or about["kind"] not in ("logistic", "gaussian_process"):
            raise ValueError("it is of another version")
        found = Classifier(about["kind"], tuple(about["classes"]), scaling, arrays)
        told = found.probabilities(np.zeros((1, len(scaling.mean)), np.float32))
        if told.shape != (1, len(found.classes)) or not np.isfinite(told).all():
            raise ValueError("its arrays do not fit together")
        identity = about["identity"]
        is_whole = sum(identity["numbers"]) == len(scaling.mean)
        if not is_whole or not all(isinstance(identity[n], dict) for n in identity["vectors"]):
            raise ValueError("it does not say what it was taught on")
    # NumPy and zipfile raise a wide range of types on a damaged file.
    except Exception as error:
        raise InputError(f"{path} is no classifier, or damaged: {reason(error)}") from None
    return found, about


def from_probabilities(told: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what probabilities ``(N, K)`` say: the best class, its probability, the uncertainty.

    Returns
    -------
    best, probability, uncertainty
        ``(N,)`` int64, and float64: the entropy as a share of the largest, 0 where one class is
        certain and 1 where all are as likely.
    """
    from scipy.special import entr

    best = told.argmax(axis=1)
    uncertainty = entr(told).sum(axis=1) / np.log(told.shape[1])
    return best, told.max(axis=1), uncertainty
