# SPDX-License-Identifier: Apache-2.0
"""The commands of a card fit the task."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from bebert_edge.training.card import write_card
from bebert_edge.training.files import Examples
from bebert_edge.training.options import TrainingOptions
from bebert_edge.training.result import TrainingResult
from bebert_edge.training.tasks.fill_mask import MaskedTexts
from bebert_edge.training.tasks.reranking import RankingExamples


@pytest.mark.parametrize(
    ("examples", "task", "arguments"),
    [
        (Examples(["a"], None, [0], ["x", "y"]), "single label, 2 labels: x, y", '"a text"'),
        (Examples(["a"], ["b"], [0], ["x", "y"]), "single label, 2 labels: x, y", '"a text" --pair "another"'),
        (MaskedTexts(["a"]), "fill mask", '"a text with a [MASK]"'),
        (
            RankingExamples(["a"], ["b"], [[0]], ["relevance"], "multi_label"),
            "reranking, 1 labels: relevance",
            '--query "a question" "a document" "another"',
        ),
    ],
)
def test_what_a_card_says_to_run(tmp_path, examples, task, arguments):
    write_card(tmp_path, TrainingOptions(), TrainingResult(tmp_path), examples, {})
    card = (tmp_path / "README.md").read_text()
    assert f"\nTask: {task}.\n" in card
    assert f"\n    bebert-edge run model.onnx {arguments}\n" in card
