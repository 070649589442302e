# SPDX-License-Identifier: Apache-2.0
"""Which linears lose most when they become binary, on models in which that is known."""

import json
import re
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from bebert_edge.cli._sensitivity import parse_size, sizes
from bebert_edge.cli.main import app
from bebert_edge.errors import TrainingError
from bebert_edge.exporters import export
from bebert_edge.kept_weights import choose
from bebert_edge.training.data import EncodedExamples
from bebert_edge.training.kept import keep, linears
from bebert_edge.training.latent import load_float, save_member
from bebert_edge.training.sensitivity import Sensitivity, by_hessian, by_loss, propose, units
from bebert_edge.training.tasks import TextClassification
from latent import binary_model, float_model, tokenizer
from support import linear_names
from tiny_families import tiny_model, tiny_tokenizer, write_tiny

LABELS = ["negative", "positive"]
SENTENCES = [f"the {a} was {b} {c}" for a in ("movie", "film") for b in ("not", "very", "") for c in ("good", "bad")]
SENSITIVE = "layers.1.ffn_in"


def sensitive_model(seed=0):
    """A model that loses nothing in binary weights, for they are binary, but in one linear, of long-tailed weights."""
    model = float_model(seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, modules in linears(model):
        for module in modules:
            rows, columns = module.weight.shape
            if name == SENSITIVE:
                module.weight.data = torch.randn(rows, columns, generator=generator) ** 5 / 5
            else:
                half = torch.cat([torch.ones(columns // 2), -torch.ones(columns // 2)])
                order = torch.rand(rows, columns, generator=generator).argsort(1)
                module.weight.data = half[order] * 0.2
    return model


def own_answers(model, texts=SENTENCES):
    """Texts labelled with what a model answers, so that every change of it costs."""
    encoded = tokenizer()(texts)
    with torch.no_grad():
        logits = torch.stack([model(**tokenizer()(text, return_tensors="pt")).logits[0] for text in texts])
    return EncodedExamples(encoded["input_ids"], encoded["token_type_ids"], logits.argmax(-1))


@pytest.fixture(scope="module")
def model():
    model = sensitive_model()
    with torch.no_grad():  # so that both answers occur
        rows = torch.stack([model(**tokenizer()(text, return_tensors="pt")).logits[0] for text in SENTENCES])
        model.classifier.bias += (rows[:, 1] - rows[:, 0]).median() * torch.tensor([1.0, 0.0])
        model.classifier.weight *= 5
    return model


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("sensitivity") / "teacher"
    model.config.id2label, model.config.label2id = dict(enumerate(LABELS)), {name: i for i, name in enumerate(LABELS)}
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def data(model, directory):
    labels = [LABELS[label] for label in own_answers(model).labels]
    path = directory.parent / "data.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{t}\t{label}\n" for t, label in zip(SENTENCES, labels, strict=True)))
    return path


def command(*arguments):
    return CliRunner().invoke(app, ["sensitivity", *map(str, arguments), "--max-length", "16", "--device", "cpu"])


def test_the_sensitive_linear_is_found(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    base, found = by_loss(model, own_answers(model), TextClassification(), bits=8)
    assert sorted(each.name for each in found) == sorted(linear_names(2))
    assert found[0].name == SENSITIVE
    assert found[0].gain > 0.05
    assert max(abs(each.gain) for each in found[1:]) < found[0].gain / 20  # binary already; codes of 8 bits cost little
    assert abs(found[0].int8) < found[0].binary / 5
    assert base == pytest.approx(float(model_loss(model)), rel=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def model_loss(model):
    data = own_answers(model)
    batch = data.batch(range(len(data)))
    with torch.no_grad():
        logits = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]).logits
    return torch.nn.functional.cross_entropy(logits, batch["labels"])


def test_coarse_codes_are_no_reason_to_keep_weights(model):
    """One bit of activations costs with int8 weights too, and keeping them saves none of that."""
    _, found = by_loss(model, own_answers(model), TextClassification(), bits=1)
    others = [each for each in found if each.name != SENSITIVE]
    assert max(abs(each.binary) for each in others) > 0.01
    assert max(abs(each.gain) for each in others) < 1e-3


def test_the_loss_by_its_own_answers_only_rises():
    torch.manual_seed(0)
    model = float_model()
    data = own_answers(model)
    data = replace(data, labels=1 - data.labels)  # of a model that is always wrong, labels would praise every change
    _, found = by_loss(model, data, TextClassification(), bits=4, own_answers=True)
    assert min(min(each.binary, each.int8) for each in found) > -1e-6
    assert max(each.gain for each in found) > 1e-3
    _, by_labels = by_loss(model, data, TextClassification(), bits=4)
    assert min(each.binary for each in by_labels) < 0
    _, traces = by_hessian(model, data, TextClassification(), own_answers=True, draws=64)
    assert sum(each.trace * each.weights for each in traces) > 0


def test_layers_are_measured_as_a_whole(model):
    _, found = by_loss(model, own_answers(model), TextClassification(), bits=8, by_layer=True)
    assert found[0].name == "layers.1"
    assert {each.name: (each.linears, each.keep) for each in found} == {
        "layers.0": (4, "layers.0.*=int8"),
        "layers.1": (4, "layers.1.*=int8"),
        "pooler": (1, "pooler=int8"),
    }


def test_hessian_traces_are_those_of_finite_differences():
    """Of the pooler, whose Hessian is small enough to take entry by entry."""
    torch.manual_seed(0)
    model = float_model()
    data = own_answers(model)
    batch = data.batch(range(len(data)))
    weight = model.bert.pooler.dense.weight
    model.config._attn_implementation = "eager"

    def loss(values):
        parameters = {"bert.pooler.dense.weight": values}
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        logits = torch.func.functional_call(model, parameters, kwargs=inputs).logits
        return torch.nn.functional.cross_entropy(logits, batch["labels"])

    exact = torch.autograd.functional.hessian(loss, weight.detach()).reshape(weight.numel(), -1).trace()
    _, found = by_hessian(model, data, TextClassification(), draws=200, batch_size=64)
    pooler = next(each for each in found if each.name == "pooler")
    assert pooler.trace * weight.numel() == pytest.approx(float(exact), rel=0.15)


def test_the_hessian_finds_the_sensitive_linear(model):
    _, found = by_hessian(model, own_answers(model), TextClassification(), draws=16)
    assert max(found, key=lambda each: abs(each.gain)).name == SENSITIVE
    assert all(abs(each.gain) < 1e-6 for each in found if each.name != SENSITIVE)
    _, layers = by_hessian(model, own_answers(model), TextClassification(), draws=16, by_layer=True)
    sums = sum(each.binary for each in found if each.name.startswith("layers.1."))
    assert next(each for each in layers if each.name == "layers.1").binary == pytest.approx(sums)


def test_a_member_ranks_what_it_keeps():
    model = binary_model(4)
    keep(model, {"layers.0.qkv": "int8", "pooler": "int8"})
    _, found = by_loss(model, own_answers(model), TextClassification(), bits=4)
    assert sorted(each.name for each in found) == ["layers.0.qkv", "pooler"]
    assert all(each.int8 == 0 for each in found)
    assert any(each.binary != 0 for each in found)
    with pytest.raises(TrainingError, match="every linear of the model is binary already"):
        units(binary_model(4), by_layer=False)
    with pytest.raises(TrainingError, match="has no Hessian"):
        by_hessian(model, own_answers(model), TextClassification())


def test_proposals_take_what_saves_most_for_its_bytes():
    found = [
        Sensitivity("a", 1_000_000, 0.5, 0.1),
        Sensitivity("b", 100_000, 0.2, 0.0),
        Sensitivity("c", 10_000, -0.1, 0.0),
        Sensitivity("layers.3", 50_000, 0.01, 0.0, linears=4),
    ]

    def size(keep):
        return 1_000_000 + sum(2 * each.weights * 7 // 8 for each in found if each.keep in keep)

    mix = propose(found, 1_300_000, 2, size)
    assert mix.keep == ("b=int8", "layers.3.*=int8")
    assert (mix.binary_size, mix.size) == (1_000_000, 1_262_500)
    assert mix.gain == pytest.approx(0.21)
    assert propose(found, 10_000_000, 2, size).keep == ("b=int8", "a=int8", "layers.3.*=int8")
    assert propose(found, 1_000_000, 2, size).keep == ()
    with pytest.raises(TrainingError, match=r"--size is 999,999 bytes, but .* the model has 1,000,000: pass a larger"):
        propose(found, 999_999, 2, size)


def test_json_and_a_proposal_that_fits(directory, data, tmp_path):
    run = command(directory, data, "--format", "json", "--size", "120kB", "--members", 2)
    assert run.exit_code == 0, run.output
    report = json.loads(run.stdout)
    assert report["examples"] == len(SENTENCES)
    assert (report["method"], report["by"], report["against"], report["bits"]) == ("loss", "linear", "labels", 4)
    assert set(report["linears"][0]) == {"name", "weights", "binary", "int8", "gain"}
    assert report["linears"][0]["name"] == SENSITIVE
    proposal = report["proposal"]
    assert proposal["keep"][0] == f"{SENSITIVE}=int8"
    assert proposal["binary_size"] < proposal["size"] <= proposal["budget"] == 120_000
    members = []
    for seed in range(2):
        member = binary_model(4, seed)
        for parameter in member.parameters():
            if parameter.dim() == 1:  # as after training: biases are no zeros, norms no ones
                parameter.data += torch.rand_like(parameter) / 10
        keep(member, choose(proposal["keep"], linear_names(2)))
        settings = dict(labels=LABELS, text_pair=False, max_length=16)
        members.append(tmp_path / f"member-{seed}")
        save_member(member, tokenizer(), members[-1], bits=4, **settings)
    exported = export(members, tmp_path / "model.onnx", verify=False)
    assert exported.size == pytest.approx(proposal["size"], rel=0.01)
    assert exported.size <= proposal["budget"]


@pytest.mark.parametrize("name", ["modernbert", "bert"])
def test_other_architectures_have_sizes(name):
    model = tiny_model(name)
    size = sizes(model, tiny_tokenizer(name), 4, 2, 24)
    weights = sum(module.weight.numel() for _, modules in linears(model) for module in modules)
    assert size(["*=int8"]) - size([]) == pytest.approx(2 * weights * 7 / 8, rel=0.1)


def test_addends_by_distance_have_a_size(tmp_path):
    model = load_float(write_tiny(tmp_path, "mpnet"), LABELS)
    size = sizes(model, tiny_tokenizer("mpnet"), 4, 2, 24)([])
    assert size > sizes(tiny_model("bert"), tiny_tokenizer("bert"), 4, 2, 24)([]) + 2 * 4 * 47 * 4


def test_the_table_ends_with_options_to_paste(directory, data):
    arguments = ["--size", "120kB", "--bits", 2, "--by", "layer", "--method", "hessian", "--against", "answers"]
    run = command(directory, data, *arguments)
    assert run.exit_code == 0, run.output
    assert "mean trace" in run.stdout
    *_, last = run.stdout.strip().splitlines()
    assert last == "(nothing fits, or nothing is gained)" or re.fullmatch(r"(--keep '[a-z0-9.*]+=int8' ?)+", last)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--size", "huge"], "--size is 'huge', expected a number of bytes with a unit"),
        (["--size", "1kB"], "but with every linear binary the model has"),
        (["--bits", 3], "--bits is 3, expected one of 1, 2, 4, 8"),
        (["--label-column", "stars"], "stars"),
    ],
)
def test_bad_settings_are_refused(directory, data, arguments, expected):
    run = command(directory, data, *arguments)
    assert run.exit_code == 1
    assert expected in run.stderr
    assert run.stdout == ""


def test_bad_models_are_refused(directory, data, tmp_path):
    def refused(path, *arguments):
        run = command(path, data, *arguments)
        assert (run.exit_code, run.stdout) == (1, "")
        return run.stderr

    headless = tmp_path / "headless"
    float_model().bert.save_pretrained(headless)
    tokenizer().save_pretrained(headless)
    assert "headless is a BertModel, expected one with a trained classification head" in refused(headless)
    (tmp_path / "ensemble.json").write_text("{}")
    assert "is an ensemble, expected one model" in refused(tmp_path)
    save_member(binary_model(4), tokenizer(), tmp_path / "m", bits=4, labels=LABELS, text_pair=False, max_length=16)
    assert "every linear of the model is binary already" in refused(tmp_path / "m")
    assert "was trained with 4: leave it out" in refused(tmp_path / "m", "--bits", 2)
    run = CliRunner().invoke(app, ["sensitivity", str(directory), str(data), "--max-length", "99"])
    assert "--max-length is 99, but" in run.stderr


def test_sizes_have_units():
    assert [parse_size(text) for text in ("8MB", "1.5 MiB", "800kb", "77")] == [8_000_000, 1_572_864, 800_000, 77]
    for text in ("", "MB", "-1MB", "8 bits", "0MB"):
        with pytest.raises(TrainingError, match="--size is"):
            parse_size(text)
