# SPDX-License-Identifier: Apache-2.0
"""Masked tokens: learnt from a masked language model's guesses, or from what was masked (Devlin et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

from bebert_edge.checkpoints.files import CONFIG_FILE, read_json
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.training.data import Batch, EncodedExamples
from bebert_edge.training.files import read_texts
from bebert_edge.training.masking import mask
from bebert_edge.training.modules import TiedDecoder
from bebert_edge.training.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class BertForFillMask(BertPreTrainedModel):
    """BERT's masked language model with logits `[masks, V]` of the tokens `config.mask_id` only, row by row."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = TiedDecoder(self.bert.embeddings.word_embeddings)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits of the masked tokens of sequences [B, S]."""
        output = self.bert(
            input_ids, attention_mask, token_type_ids, output_hidden_states=output_hidden_states, **kwargs
        )
        masked = _masked(input_ids, attention_mask, self.config.mask_id)
        logits = self.decoder(self.transform(output.last_hidden_state[masked]))
        return MaskedLMOutput(logits=logits, hidden_states=output.hidden_states)


def _masked(input_ids: Tensor, attention_mask: Tensor | None, mask_id: int) -> Tensor:
    found = input_ids == mask_id
    return found if attention_mask is None else found & (attention_mask != 0)


class AutoMaskedModel:
    """A `BertForMaskedLM` as a `BertForFillMask`."""

    @staticmethod
    def from_pretrained(directory: Path, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """As transformers' `from_pretrained` with `output_loading_info`."""
        kind = read_json(directory / CONFIG_FILE)
        if kind.get("model_type") != "bert":
            raise CheckpointError("it has no masked language model of BERT's, which alone can be trained for fill-mask")
        if "BertForFillMask" in (kind.get("architectures") or []):
            model, info = BertForFillMask.from_pretrained(directory, **arguments)
            return model, info
        loaded, info = BertForMaskedLM.from_pretrained(directory, **arguments)
        tensors = loaded.state_dict()
        head = "cls.predictions."
        renamed = {name: tensor for name, tensor in tensors.items() if not name.startswith(head)}
        for name, tensor in tensors.items():
            if name.startswith(f"{head}transform."):
                renamed[name.removeprefix(head)] = tensor
        renamed["decoder.bias"] = tensors[f"{head}bias"]
        model = BertForFillMask(loaded.config)
        model.load_state_dict(renamed)
        return model, info


@dataclass(frozen=True)
class MaskedTexts:
    """Texts, some of whose tokens will be masked."""

    texts: list[str]
    label_names: list[str] = field(default_factory=list)
    problem: str = "single_label"
    text_pair: bool = False

    @property
    def task(self) -> str:
        """See `Examples.task`."""
        return FillMask.name

    def __len__(self) -> int:
        return len(self.texts)

    def content(self) -> list[Any]:
        """See `Examples.content`."""
        return [self.texts]

    def renamed(self, names: Sequence[str]) -> MaskedTexts:
        """Raises TrainingError: the labels are the vocabulary."""
        raise TrainingError(f"--label-names are {', '.join(names)}, but fill-mask has no labels: leave them out")

    def split(self, share: float, seed: int) -> tuple[MaskedTexts, MaskedTexts]:
        """Raises TrainingError: no temperature is fitted."""
        raise TrainingError("fill-mask fits no temperature, for which examples would be held out")


@dataclass(frozen=True)
class EncodedMasks(EncodedExamples):
    """Texts with masks.

    Attributes:
        whole: The same ids without masks.
        mask_id: The mask.
    """

    whole: list[list[int]] = field(default_factory=list)
    mask_id: int = 0

    def batch(self, index: Sequence[int]) -> Batch:
        """As `EncodedExamples.batch`; `labels` [B, S] are the ids without masks."""
        found = super().batch(index)
        labels = found["input_ids"].clone()
        for row, i in enumerate(index):
            labels[row, : len(self.whole[i])] = torch.tensor(self.whole[i])
        return found | {"labels": labels}

    @property
    def right(self) -> Tensor:
        """What was masked [masks], text by text."""
        pairs = zip(self.ids, self.whole, strict=True)
        return torch.tensor([b for x, y in pairs for a, b in zip(x, y, strict=True) if a == self.mask_id])


class FillMask(Task):
    """Masked tokens. A batch has as many "logits" as masks."""

    name = "fill-mask"
    model = BertForFillMask
    auto = AutoMaskedModel
    last = ""
    boosts = False
    calibrates = False
    settings = ("mask_id",)
    metric = "accuracy of masked tokens"

    mask_id: int = 0

    @classmethod
    def read(cls, path: str | Path, *, split: str, classes: Sequence[str] | None, **columns: Any) -> MaskedTexts:
        """A file of texts; the second text of a pair is one of its own."""
        found = read_texts(
            path, text_column=columns.get("text_column"), text_pair_column=columns.get("text_pair_column")
        )
        return MaskedTexts([text for pair in found for text in pair if text is not None])

    @staticmethod
    def settle(model: Any, directory: Path) -> None:
        """The tokenizer says which token is the mask."""
        from bebert_edge.training.latent import load_tokenizer

        model.config.mask_id = load_tokenizer(directory).mask_token_id
        if model.config.mask_id is None:
            raise CheckpointError(f"{directory} has a tokenizer without a mask token: choose another --teacher")
        width, hidden = getattr(model.config, "embedding_size", None), model.config.hidden_size
        if width not in (None, hidden):
            raise CheckpointError(
                f"{directory} has embeddings of {width} channels, expected {hidden} as its layers have: choose another "
                "--teacher"
            )

    def encode(self, examples: Any, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedExamples:
        """Token ids, a share of which is masked: of each text the same ones every time."""
        encoded = tokenizer(
            examples.texts,
            truncation=True,
            max_length=max_length,
            return_token_type_ids=True,
            return_special_tokens_mask=True,
        )
        self.mask_id = tokenizer.mask_token_id
        ids = []
        for number, (whole, special) in enumerate(
            zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
        ):
            ids.append(mask(whole, [not x for x in special], self.mask_id, number))
        nothing = torch.zeros(len(ids), dtype=torch.long)
        found = EncodedMasks(
            ids, encoded["token_type_ids"], nothing, tokenizer.pad_token_id or 0, encoded["input_ids"], self.mask_id
        )
        kept = [row for row, masked in enumerate(ids) if self.mask_id in masked]  # a batch needs a mask
        if not kept:
            raise TrainingError("no text has a token to mask: pass other texts, or a larger --max-length")
        return found.take(torch.tensor(kept))

    def label_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of a text's masks."""
        masked = _masked(batch["input_ids"], batch["attention_mask"], self.mask_id)
        return _means(F.cross_entropy(logits, batch["labels"][masked], reduction="none"), masked)

    def teacher_losses(self, logits: Tensor, expected: Tensor, batch: Batch) -> Tensor:
        """The same with the teacher's guesses for labels."""
        masked = _masked(batch["input_ids"], batch["attention_mask"], self.mask_id)
        return _means(F.cross_entropy(logits, expected.softmax(-1), reduction="none"), masked)

    def rows(self, logits: Tensor, batch: Batch) -> list[Tensor]:
        """Those of the masks of each text."""
        counts = _masked(batch["input_ids"], batch["attention_mask"], self.mask_id).sum(1)
        return [row.clone() for row in logits.split(counts.tolist())]

    def answers(self, rows: list[Tensor], data: EncodedExamples) -> Tensor:
        """Those of all masks, text by text."""
        return torch.cat(rows)

    def score(self, answers: Tensor, data: EncodedExamples) -> float:
        """Share of the masks whose most probable token is what was masked."""
        assert isinstance(data, EncodedMasks)
        return float((answers.argmax(-1) == data.right).double().mean())


def _means(losses: Tensor, masked: Tensor) -> Tensor:
    """Losses of masks [masks] -> their mean in each text [B], 0 for one without."""
    counts = masked.sum(1)
    rows = torch.arange(len(masked), device=masked.device).repeat_interleave(counts)
    sums = torch.zeros(len(masked), device=losses.device).index_add(0, rows, losses)
    return sums / counts.clamp(min=1)
