# SPDX-License-Identifier: Apache-2.0
"""Ensembles from the stored answers of their members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from plan import PERTURBED, TASKS, Ensemble, Unit
from scores import pack, predictions, score, statistics

from bebert_edge.evaluation.calibration import calibration
from bebert_edge.training.boosting import member_weights
from bebert_edge.training.calibration import combine, fit_temperature

if TYPE_CHECKING:
    from study import Study

INPUTS = ("clean", "reference", "typos", "dropped words", "embedding noise")
"""`reference` is the clean form of the examples that are perturbed."""


def as_predictions(labels: NDArray[Any], problem: str) -> NDArray[np.generic]:
    """Labels in the types of predictions."""
    return labels.astype({"regression": np.float16, "multi_label": bool, "single_label": np.uint8}[problem])


def sorted_order(labels: NDArray[Any]) -> NDArray[np.intp]:
    """The order by labels, in which results are stored: a data set's labels in their own order are not ours to give."""
    return np.lexsort(labels.T) if labels.ndim > 1 else np.argsort(labels, kind="stable")


def collect_labels(labels: NDArray[Any], task: str) -> dict[str, Any]:
    """The labels of all examples, and of those that are perturbed too, both sorted."""

    def part(chosen: NDArray[Any]) -> dict[str, Any]:
        ordered = as_predictions(chosen[sorted_order(chosen)], TASKS[task].problem)
        return {"examples": len(chosen), "packed": pack(ordered)}

    return {"clean": part(labels), "perturbed": part(labels[:PERTURBED])}


def score_of(logits: NDArray[Any], labels: NDArray[Any], task: str) -> float:
    """The task's metric, in percent."""
    metric, problem = TASKS[task].metric, TASKS[task].problem
    found = predictions(logits.astype(np.float64), problem)
    sums = statistics(found, as_predictions(labels, problem), metric).sum(0)
    return round(float(score(sums, metric, len(labels))), 3)


def _combined(study: Study, task: str, outputs: list[dict[str, Any]], weights: list[float], name: str) -> NDArray[Any]:
    logits = torch.stack([torch.from_numpy(arrays[name].astype(np.float32)) for arrays in outputs])
    return combine(logits, weights, "logits", TASKS[task].problem).double().numpy()


def collect_ensemble(
    study: Study, task: str, bits: int, seed: int, ensemble: Ensemble, members: list[Unit]
) -> list[dict[str, Any]]:
    """What an ensemble answers to each input, as entries of a results file."""
    problem = TASKS[task].problem
    outputs = [study.outputs(unit) for unit in members]
    alphas = [study.result(unit).get("alpha", 1.0) for unit in members] if ensemble.weighted else [1.0] * len(members)
    weights = member_weights(alphas)
    truth = study.outputs(Unit(task, 32, 0, "teacher"))
    common = {
        "method": ensemble.method,
        "members": ensemble.members,
        "bits": 32 if ensemble.method == "full precision" else bits,
        "seed": seed,
        "units": [unit.key for unit in members],
        "weights": [round(weight, 6) for weight in weights],
    }
    found = []
    for name in INPUTS if all(unit.perturbed for unit in members) else INPUTS[:1]:
        part = slice(None) if name != "reference" else slice(PERTURBED)
        logits = _combined(study, task, outputs, weights, "clean" if name == "reference" else name)[part]
        order = sorted_order(truth["labels"][: len(logits)])
        cell = {**common, "input": name, "predictions": pack(predictions(logits, problem)[order])}
        if name == "clean" and problem == "single_label":
            held_out = torch.from_numpy(_combined(study, task, outputs, weights, "held out"))
            temperature = fit_temperature(held_out, torch.from_numpy(truth["held out labels"]), problem)
            cell |= {
                "temperature": round(temperature, 4),
                "ece": round(100 * calibration(logits, truth["labels"], problem).ece, 3),
                "ece_calibrated": round(100 * calibration(logits / temperature, truth["labels"], problem).ece, 3),
            }
        found.append(cell)
    return found
