# SPDX-License-Identifier: Apache-2.0
"""Vectors of texts: learnt from a teacher's vectors, from pairs that belong together, or from scores of pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from bebert_edge.checkpoints.pooling import MODULES_FILE, read_pooling
from bebert_edge.errors import TrainingError
from bebert_edge.training.data import Batch, EncodedExamples
from bebert_edge.training.files import SCORE_COLUMNS, read_rows, read_texts
from bebert_edge.training.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCALE = 20.0
"""What cosines are multiplied by before their softmax, as sentence-transformers' MultipleNegativesRankingLoss does."""


class BertForSentenceEmbedding(BertPreTrainedModel):
    """A BERT without pooler that answers with the direction of its first or its mean state (`config.pooling`)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """`logits` are unit vectors [B, H] of sequences [B, S] that begin with a real token."""
        output = self.bert(
            input_ids, attention_mask, token_type_ids, output_hidden_states=output_hidden_states, **kwargs
        )
        x = output.last_hidden_state.float()
        if getattr(self.config, "pooling", "mean") == "first":
            pooled = x[:, 0]
        else:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return SequenceClassifierOutput(logits=F.normalize(pooled, dim=-1), hidden_states=output.hidden_states)


class AutoSentenceEncoder:
    """The encoder of any family of transformers, loaded with its name before its tensors' and without a head."""

    @staticmethod
    def from_pretrained(directory: Path, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """As transformers' `from_pretrained` with `output_loading_info`."""
        # Of all heads that of tokens is the one behind an encoder without pooler; it is dropped.
        names = {name: arguments.pop(name) for name in ("id2label", "label2id", "problem_type")}
        model, info = AutoModelForTokenClassification.from_pretrained(directory, **arguments)
        model.classifier = nn.Identity()
        for name, value in names.items():
            setattr(model.config, name, value)
        for key in ("missing_keys", "unexpected_keys"):
            info[key] = {name for name in info[key] if not name.startswith("classifier.")}
        info["mismatched_keys"] = {x for x in info["mismatched_keys"] if not x[0].startswith("classifier.")}
        return model, info


@dataclass(frozen=True)
class SentenceExamples:
    """Texts, or pairs of texts, maybe with scores.

    Attributes:
        texts: The texts.
        pairs: A text that belongs to each, or is as similar to it as `scores` say; or None.
        scores: From 0, or below for opposites, to 1 for the same meaning; None where all pairs belong together.
    """

    texts: list[str]
    pairs: list[str] | None = None
    scores: list[float] | None = None
    label_names: list[str] = field(default_factory=list)
    problem: str = "embedding"
    text_pair: bool = False  # of what the model reads

    @property
    def task(self) -> str:
        """See `Examples.task`."""
        return SentenceEmbedding.name

    def __len__(self) -> int:
        return len(self.texts)

    def content(self) -> list[Any]:
        """See `Examples.content`."""
        return [self.texts, self.pairs, self.scores]

    def renamed(self, names: Sequence[str]) -> SentenceExamples:
        """Raises TrainingError: there are no labels."""
        raise TrainingError(f"--label-names are {', '.join(names)}, but an embedding has no labels: leave them out")

    def split(self, share: float, seed: int) -> tuple[SentenceExamples, SentenceExamples]:
        """Raises TrainingError: embeddings have no temperature to fit."""
        raise TrainingError("embeddings have no temperature, for which examples would be held out")


@dataclass(frozen=True)
class EncodedPairs(EncodedExamples):
    """Pairs of texts: a batch of B examples has the B first texts, then the B second ones.

    Attributes:
        pair_ids: Token ids of the second texts.
        pair_types: Token types of the second texts.
    """

    pair_ids: list[list[int]] = field(default_factory=list)
    pair_types: list[list[int]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """See `EncodedExamples.rows`."""
        return 2 * len(self)

    def batch(self, index: Sequence[int]) -> Batch:
        """As `EncodedExamples.batch`, of 2 B rows; `index` of a second text is that of the first plus N."""
        n = len(self)
        both = EncodedExamples(
            [*(self.ids[i] for i in index), *(self.pair_ids[i] for i in index)],
            [*(self.token_types[i] for i in index), *(self.pair_types[i] for i in index)],
            self.labels[torch.tensor(index)].repeat(2),
            self.pad_id,
        )
        rows = torch.tensor([*index, *(i + n for i in index)])
        return both.batch(range(2 * len(index))) | {"index": rows, "of_pairs": torch.ones(2 * len(index))}


class SentenceEmbedding(Task):
    """Unit vectors of texts. "Logits" are these."""

    name = "sentence-embedding"
    model = BertForSentenceEmbedding
    auto = AutoSentenceEncoder
    last = ""
    boosts = False
    calibrates = False
    settings = ("pooling",)
    combinations = ("embeddings", "concatenation")
    metric = "Spearman correlation"

    @classmethod
    def read(cls, path: str | Path, *, split: str, classes: Sequence[str] | None, **columns: Any) -> SentenceExamples:
        """A file of texts, or of pairs with or without scores; or a GLUE task."""
        from bebert_edge.training.glue import TASKS, load_task

        if str(path) in TASKS and not Path(path).exists():
            found = load_task(str(path), split)
            scored = found.pairs is not None and found.problem == "regression"
            return _examples(path, found.texts, found.pairs, found.labels if scored else None)
        column = columns.get("label_column")
        rows = read_texts(
            path, text_column=columns.get("text_column"), text_pair_column=columns.get("text_pair_column")
        )
        texts = [text for text, _ in rows]
        if rows[0][1] is None:
            return _examples(path, texts, None, None)
        records = read_rows(path)
        column = column or next((name for name in SCORE_COLUMNS if name in records[0][1]), None)
        scores = None if column is None else [_score(path, line, row.get(column)) for line, row in records]
        return _examples(path, texts, [pair or "" for _, pair in rows], scores)

    @staticmethod
    def describe(model: Any, directory: Path) -> None:
        """Writes how a float model pools, as sentence-transformers has it."""
        pooling = getattr(model.config, "pooling", "mean")
        modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        content = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ]
        (directory / MODULES_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        modes = {"cls_token": pooling == "first", "mean_tokens": pooling == "mean"}
        config = {"word_embedding_dimension": model.config.hidden_size}
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling" / "config.json").write_text(
            json.dumps(config | {f"pooling_mode_{name}": on for name, on in modes.items()}, indent=2) + "\n",
            encoding="utf-8",
        )

    @staticmethod
    def settle(model: Any, directory: Path) -> None:
        """A model pools as its `modules.json` says, or by the mean where it has none."""
        if getattr(model.config, "pooling", None) is None:
            model.config.pooling = read_pooling(directory) if (directory / MODULES_FILE).is_file() else "mean"

    def encode(self, examples: Any, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedExamples:
        """Token ids, each text by itself."""

        def tokens(texts: list[str]) -> tuple[list[list[int]], list[list[int]]]:
            encoded = tokenizer(texts, truncation=True, max_length=max_length, return_token_type_ids=True)
            return encoded["input_ids"], encoded["token_type_ids"]

        scores = [math.nan] * len(examples) if examples.scores is None else examples.scores
        first = (*tokens(examples.texts), torch.tensor(scores, dtype=torch.float32), tokenizer.pad_token_id or 0)
        return EncodedExamples(*first) if examples.pairs is None else EncodedPairs(*first, *tokens(examples.pairs))

    def label_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Of pairs with scores, how far their cosines are from these, squared.

        Of others cross-entropy among the batch's second texts, and its first, by their cosines: all but one do not
        belong to a text (in-batch negatives; Henderson et al. 2017, arXiv:1705.00652).
        """
        if "of_pairs" not in batch:
            raise TrainingError("single texts have nothing to learn from but a teacher: pass --teacher, or pairs")
        first, second = logits.chunk(2)
        scores = batch["labels"].chunk(2)[0]
        if not bool(scores.isnan().any()):
            return ((first * second).sum(-1) - scores).square().repeat(2)
        cosines, right = first @ second.T * SCALE, torch.arange(len(first), device=logits.device)
        return torch.cat([F.cross_entropy(x, right, reduction="none") for x in (cosines, cosines.T)])

    def teacher_losses(self, logits: Tensor, expected: Tensor, batch: Batch) -> Tensor:
        """Squared distance of the unit vectors, 2 - 2 cosine (Reimers and Gurevych 2020, arXiv:2004.09813)."""
        return (logits - expected).square().sum(-1)

    def score(self, answers: Tensor, data: EncodedExamples) -> float:
        """Rank correlation of cosines and scores."""
        from scipy.stats import spearmanr

        if not isinstance(data, EncodedPairs) or bool(data.labels.isnan().any()):
            raise TrainingError("--dev has no scores, expected pairs of texts with a score each: leave it out")
        first, second = F.normalize(answers.double(), dim=-1).chunk(2)
        return float(spearmanr((first * second).sum(-1).numpy(), data.labels.numpy()).statistic)


def _score(path: object, line: int, value: Any) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise TrainingError(
            f"{path}: line {line} has the score {value!r:.60}, expected how similar the two texts are, a number; name "
            "its column with --label-column, or remove it where all pairs belong together"
        )
    return score


def _examples(
    path: object, texts: list[str], pairs: list[str] | None, scores: Sequence[float] | None
) -> SentenceExamples:
    """Scores become 1 at most; where all are the same, all pairs belong together."""
    if scores is None or len(set(scores)) == 1:
        return SentenceExamples(texts, pairs)
    highest = max(scores)
    if highest <= 0:
        raise TrainingError(f"{path}: the highest score is {highest:g}, expected one above 0")
    return SentenceExamples(texts, pairs, [score / highest for score in scores])
