# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from bebert_edge.checkpoints import load
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.reference import fixed_exp as reference_fixed_exp
from bebert_edge.reference import forward
from bebert_edge.training import binarize, load_member
from bebert_edge.training.modules import BinaryEmbedding, BinaryLinear, fixed_exp
from latent import SENTENCES, binary_model, float_model, tokenizer, write_member


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_evaluation_equals_the_reference_of_the_packed_ensemble(bits, tmp_path):
    members = [write_member(tmp_path / f"member-{i}", bits, seed=i) for i in range(2)]
    inputs = tokenizer()(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = torch.stack([load_member(member)(**inputs).logits for member in members]).numpy()
    logits, member_logits = forward(
        load(members), inputs["input_ids"].numpy(), inputs["attention_mask"].numpy(), inputs["token_type_ids"].numpy()
    )
    np.testing.assert_allclose(member_logits, expected, atol=2e-5)
    np.testing.assert_allclose(logits, expected.mean(0), atol=2e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_precisions_agree(bits):
    inputs = tokenizer()(SENTENCES, padding=True, return_tensors="pt")
    gradients = []
    for precision in ("fp32", "bf16"):
        model = binarize(float_model(), bits, precision).train()
        hidden = model.bert.embeddings(inputs["input_ids"]).detach().requires_grad_()
        layer = model.bert.encoder.layer[0]
        layer.intermediate(layer.attention.self(hidden)[0]).square().sum().backward()
        gradients.append((layer.intermediate.dense.weight.grad, layer.attention.self.value.weight.grad, hidden.grad))
    for exact, narrow in zip(*gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(exact.flatten(), narrow.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("bits", [1, 4])
def test_training_mode_computes_the_same_up_to_bfloat16(bits):
    model = binary_model(bits)
    inputs = tokenizer()(SENTENCES, padding=True, return_tensors="pt")
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        hidden = model.bert.embeddings(inputs["input_ids"])
        exact = layer.intermediate.dense(hidden)
        model.train()
        torch.testing.assert_close(model.bert.embeddings(inputs["input_ids"]), hidden, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            layer.intermediate.dense(hidden), exact, atol=0.02 * float(exact.abs().max()), rtol=0
        )


def test_padding_and_batch_change_nothing():
    model = binary_model(4)
    batch = tokenizer()(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        together = model(**batch).logits
        alone = torch.cat([model(**tokenizer()([text], return_tensors="pt")).logits for text in SENTENCES])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_the_gradient_of_a_latent_weight_is_straight_through():
    model = binary_model(8).train()
    dense: BinaryLinear = model.bert.pooler.dense
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    g = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    dense(x).backward(g)
    quantized = dense.quantizer.value(dense.quantizer(x)).detach()
    by_hand = g.t() @ quantized
    by_hand -= by_hand.mean(1, keepdim=True)  # rows enter less their mean
    torch.testing.assert_close(dense.weight.grad, by_hand, atol=0.02 * by_hand.abs().max().item(), rtol=0)
    torch.testing.assert_close(dense.bias.grad, g.sum(0))


def test_only_words_of_the_batch_get_a_gradient():
    table = BinaryEmbedding(10, 4).train()
    table(torch.tensor([[1, 3], [3, 1]])).sum().backward()
    assert table.weight.grad.is_sparse
    assert sorted(table.weight.grad.coalesce().indices()[0].tolist()) == [1, 3]


def test_evaluation_follows_weights_that_change():
    model = binary_model(4)
    dense: BinaryLinear = model.bert.pooler.dense
    x = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    before = dense(x)
    with torch.no_grad():
        dense.weight.neg_()
    assert not torch.allclose(before - dense.bias, dense(x) - dense.bias)


def test_evaluation_follows_a_fused_optimizer():
    model = binary_model(4)
    inputs = tokenizer()(SENTENCES, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW([model.bert.pooler.dense.weight], lr=1.0, fused=True)
    before = model(**inputs).logits.detach()
    model.train()(**inputs).logits.sum().backward()
    optimizer.step()
    after = model.eval()(**inputs).logits
    fresh = binary_model(4)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(after, fresh(**inputs).logits)
    assert not torch.equal(after, before)


def test_fixed_exp_equals_the_reference():
    t = -torch.cat([torch.zeros(1), torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 20])
    np.testing.assert_array_equal(fixed_exp(t).numpy(), reference_fixed_exp(t.numpy()))


def test_other_models_and_bits_are_refused():
    with pytest.raises(TrainingError, match="bits is 3"):
        binarize(float_model(), 3)
    with pytest.raises(TrainingError, match="precision is 'fp16'"):
        binarize(float_model(), 4, "fp16")
    model = float_model()
    model.config.model_type = "roberta"
    with pytest.raises(TrainingError, match="roberta"):
        binarize(model, 4)


def test_a_float_model_is_no_member(tmp_path):
    float_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="bebert-edge train"):
        load_member(tmp_path)
