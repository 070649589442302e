# SPDX-License-Identifier: Apache-2.0
"""The model that ships, on the dev set of SST-2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

from bebert_edge.evaluation import Settings, evaluate, open_model, read_data
from bebert_edge.runtime import EdgeModel, default_model_path

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BEBERT_EDGE_DATASETS", ROOT.parent / "shared" / "datasets")) / "sst2" / "dev.tsv.gz"


@pytest.mark.skipif(not DATA.is_file(), reason=f"{DATA} is missing: set BEBERT_EDGE_DATASETS")
def test_evaluation_finds_the_accuracy_that_the_model_states():
    model = open_model(default_model_path(), threads=1)
    data = read_data(DATA, model)
    report = evaluate([model], data, Settings(resamples=200)).models[0]
    stated = EdgeModel(default_model_path()).metadata.config.metadata
    assert f"{report.scores['accuracy'].value:.4f}" == stated["dev_accuracy"]
    assert report.diversity.oracle > report.scores["accuracy"].value > report.scores["accuracy"].interval.low
