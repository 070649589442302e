# SPDX-License-Identifier: Apache-2.0
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given
from hypothesis import strategies as st

from bebert_edge.errors import TrainingError
from bebert_edge.training import binarize
from bebert_edge.training.modules import BinaryLinear, binarize_rows, ternarize_rows
from bebert_edge.training.quantization import Quantizer
from bebert_edge.training.splitting import continue_from, split, split_rows
from latent import SENTENCES, binary_model, float_model, tokenizer


def ternary_model(bits=4):
    model = binarize(float_model(), bits, ternary=True).train()
    with torch.no_grad():
        model(**batch())
    return model


def batch():
    return tokenizer()(SENTENCES, padding=True, return_tensors="pt")


def values(rows, latent):
    codes, scale = rows(latent)
    return codes * scale[:, None]


def test_ternary_rows_by_hand():
    # Mean 7; less it, the mean magnitude is 2.8 and the threshold 1.96.
    codes, scale = ternarize_rows(torch.tensor([[-6.0, 5.0, 4.0, -1.0, -1.0, 1.0, -1.0, 4.0, -4.0, -1.0]]) + 7)
    assert codes.tolist() == [[-1, 1, 1, 0, 0, 0, 0, 1, -1, 0]]
    assert scale.item() == pytest.approx((6 + 5 + 4 + 4 + 4) / 5)


@given(seed=st.integers(0, 2**31), channels=st.integers(2, 65), power=st.floats(0.2, 3), size=st.floats(1e-4, 10))
def test_the_mean_of_the_halves_is_the_ternary_weight(seed, channels, power, size):
    normal = torch.randn(4, channels, generator=torch.Generator().manual_seed(seed))
    latent = normal.sign() * normal.abs() ** power * size + 0.1 * size  # tails light and heavy
    halves = split_rows(latent)
    mean = sum(values(binarize_rows, half) for half in halves) / 2
    torch.testing.assert_close(mean, values(ternarize_rows, latent), rtol=1e-5, atol=1e-6 * size)


@given(row=st.lists(st.integers(-3, 3), min_size=2, max_size=12))
def test_so_it_is_for_rows_with_equal_weights(row):
    latent = torch.tensor([row], dtype=torch.float32)
    mean = sum(values(binarize_rows, half) for half in split_rows(latent)) / 2
    torch.testing.assert_close(mean, values(ternarize_rows, latent), rtol=1e-5, atol=1e-6)


def test_the_sum_of_the_halves_keeps_the_latent_weight():
    latent = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
    centred = latent - latent.mean(1, keepdim=True)
    total = sum(split_rows(latent)) / 2
    assert torch.nn.functional.cosine_similarity(total, centred).min() > 0.98
    torch.testing.assert_close(total.norm(dim=1), centred.norm(dim=1), rtol=0.1, atol=0)


def test_a_ternary_model_splits_into_two_members():
    model = ternary_model()
    a, b = (binarize(float_model(seed=1), 4) for _ in range(2))
    for member, state in zip((a, b), split(model), strict=True):
        member.load_state_dict(state)
    for name, module in model.named_modules():
        if isinstance(module, BinaryLinear):
            halves = [values(binarize_rows, member.get_submodule(name).weight.detach()) for member in (a, b)]
            torch.testing.assert_close(sum(halves) / 2, values(ternarize_rows, module.weight.detach()))
            assert not torch.equal(*halves)
    logits = [member.eval()(**batch()).logits for member in (a, b)]
    assert torch.isfinite(torch.stack(logits)).all()
    assert not torch.allclose(*logits)
    for name, tensor in model.state_dict().items():
        if "quantizer" in name or "classifier" in name:
            assert torch.equal(tensor, a.state_dict()[name])
            assert torch.equal(tensor, b.state_dict()[name])


def test_a_binary_model_is_not_split():
    with pytest.raises(TrainingError, match="ternary=True"):
        split(binary_model(4))


def test_a_ternary_model_trains_as_it_evaluates():
    model = binarize(float_model(), 8, "fp32", ternary=True).train()
    with torch.no_grad():
        model(**batch())
        trained = model(**batch()).logits
        torch.testing.assert_close(trained, model.eval()(**batch()).logits, atol=0.02 * trained.abs().max(), rtol=0)
    assert not torch.allclose(trained, binary_model(8)(**batch()).logits, atol=0.05)


def test_a_student_continues_from_a_member_with_more_bits():
    member, student = binary_model(8), binarize(float_model(seed=1), 2)
    continue_from(student, member)
    state = student.state_dict()
    for name, tensor in member.state_dict().items():
        assert torch.isnan(state[name]) if name.endswith(".step") else torch.equal(state[name], tensor)
    with torch.no_grad():
        student.train()(**batch())
    for name, module in student.named_modules():
        if isinstance(module, Quantizer):
            assert module.step > 0, name
            if module.signed:  # fewer codes, larger steps
                assert module.step > 4 * member.get_submodule(name).step, name


def test_a_student_with_as_many_bits_keeps_the_steps():
    member, student = binary_model(4), binarize(float_model(seed=1), 4)
    continue_from(student, member)
    inputs = batch()
    assert torch.equal(student.eval()(**inputs).logits, member(**inputs).logits)


def test_a_student_of_another_shape_is_refused():
    with pytest.raises(TrainingError, match="another shape"):
        continue_from(binary_model(4, labels=3), binary_model(8))
