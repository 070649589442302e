# SPDX-License-Identifier: Apache-2.0
"""Sentences on which an exported model is verified: of every length, register and script that a user may type."""

from __future__ import annotations

from bebert_edge.ensemble import PackedEnsemble

Sample = str | tuple[str, str]

LONG = (
    "What begins as a quiet family drama turns, somewhere around its middle, into a thriller that takes itself so "
    "seriously that the few jokes left in the script sound like accidents."
)
LONGER = (
    "I bought it for my daughter, who loved it for a week, then for my nephew, who broke it in a day, and now the "
    "manufacturer tells me that the guarantee covers neither love nor nephews. The box was nice, though. The manual "
    "is in four languages, none of which I read, and the batteries are not included."
)
LONGEST = (
    "On the one hand the acting is superb, the photography is some of the best of the year, and the score is "
    "unforgettable. On the other hand nothing happens. People sit in rooms and look out of windows; they pour tea, "
    "they do not drink it, they leave. After an hour I started to count the cups. After two I began to care about "
    "the cups. Perhaps that was the point, and if so it is a very good film about crockery, made by people who have "
    "clearly thought about it for a long time, and I can recommend it to anybody who owns a kettle."
)

SENTENCES = (
    "",
    ".",
    "no",
    "Wonderful!",
    "I would not watch this again.",
    "The second half is slower than the first, but the ending makes up for it.",
    "THIS IS THE WORST SERVICE I HAVE EVER PAID FOR!!!",
    "meh... could be better, could be worse",
    "Not bad at all; in fact, rather good.",
    "It is hard to say whether the author believes any of this.",
    "The train from Zürich to Genève was 3 minutes late (again).",
    "Das Essen war kalt, der Kellner aber sehr freundlich.",
    "Où est passée la scène où ils se réconcilient ?",
    "この映画は本当に面白かったです。",
    "Мне понравилась музыка, но сюжет скучный.",
    "الخدمة ممتازة والسعر مناسب",
    "great phone 👍🏽 battery dies after 2h 😡",
    "https://example.org/reviews?id=42&sort=new says 4.5/5",
    "Mix 250 g of flour with 1/2 tsp. of salt, then add 3 eggs.",
    "def answer(): return 42  # tests pass, ship it",
    "She said, \"I don't know\" - and she didn't.",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "a a a a a a a a a a a a a a a a a a a a",
    "tabs\tand\nnew lines   and    many     spaces",
    "Shares of the company rose 4.7% on Tuesday after it raised its forecast for the year.",
    "The committee has approved the plan, although two members voted against it.",
    "Scientists found that the glacier had lost a third of its mass since 1990.",
    "Who scored the goal that won the final?",
    "If you liked the book, you will probably hate the film; if you hated the book, give it a try.",
    LONG,
    LONGER,
    LONGEST,
)


def samples(ensemble: PackedEnsemble) -> tuple[Sample, ...]:
    """The sentences; for tasks on pairs each with another one, shorter or longer; to be filled, each with masks."""
    config = ensemble.config
    mask_ids = [config.of(name).task.mask_id for name in config.task_names]
    masks = [mask_id for mask_id in mask_ids if mask_id is not None]
    sentences: tuple[str, ...] = SENTENCES
    if masks:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(ensemble.tokenizer)
        mask = " ".join(tokenizer.id_to_token(mask_id) or "" for mask_id in dict.fromkeys(masks))
        sentences = tuple(f"{mask} {sentence} {mask}" for sentence in SENTENCES)
    return tuple(zip(sentences, reversed(sentences), strict=True)) if config.task.text_pair else sentences
