"""``policygrad kl`` as a user meets it."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from policygrad.cli import kl as module
from policygrad.models import Beta, Categorical, DiagGaussian, Mixture, TanhGaussian


def test_both_ways_and_the_estimators(cli):
    """Schulman's own example, N(0.1, 1) and N(0, 1); 4000 samples, seed 0."""
    code, out, err = cli("kl", "normal(0.1, 1)", "normal(0, 1)", "--n", "4000")
    assert code == 0 and err == ""
    assert "D(P‖Q) = 0.005 nats, closed form" in out and "D(Q‖P) = 0.005 nats" in out and "try: --picture DIR" in out
    rows = [line.split() for line in out.splitlines() if line.split()[:1] in (["k1"], ["k2"], ["k3"])]
    assert [row[:3] for row in rows[:3]] == [
        ["k1", "0", "0.1"],
        ["k2", "1.25e-05", "0.007089"],
        ["k3", "0", "0.007083"],
    ]
    assert [float(row[4]) < 0.005 < float(row[6]) for row in rows[::2]] == [True] * 3


def test_without_an_exact_number_the_samples_have_to_do(cli):
    """A mixture over three numbers whose two parts are the same: D = 3/2 for normal(0, 1) and normal(1, 1)."""
    three = "mixture(0.5*normal([0, 0, 0], 1) + 0.5*normal([0, 0, 0], 1))"
    code, out, err = cli("kl", three, "normal([1, 1, 1], 1)", "--n", "4000")
    assert code == 0 and err == "" and "D(P‖Q) = ?, no exact number" in out and "nats" not in out
    k1, k2, _ = [line.split() for line in out.splitlines() if line.split()[:1] in (["k1"], ["k2"], ["k3"])][:3]
    assert k1[1] == "0" and k2[1] == "?" and float(k1[4]) < 1.5 < float(k1[6])
    assert json.loads(cli("kl", three, three, "--n", "9", "--json")[1])["D(P‖Q)"]["divergence"] is None


def test_far_apart_is_not_biased(cli):
    """No node is where normal(60, 1) is; and yet E_P[r] = 1, whatever lies between."""
    _, out, _ = cli("kl", "normal(0, 1)", "normal(60, 1)", "--n", "10", "--json")
    for way in ("D(P‖Q)", "D(Q‖P)"):
        rows = json.loads(out)[way]["estimators"]
        assert rows["k1"]["bias"] == rows["k3"]["bias"] == 0 and rows["k2"]["bias"] > 1e5


def test_json_is_one_object_and_nothing_else(cli):
    argv = ["kl", "categorical(0.2, 0.8)", "categorical(1, 0)", "--n", "100", "--json"]
    code, out, err = cli(*argv)
    report = json.loads(out)
    assert code == 0 and err == ""
    assert report["D(P‖Q)"]["divergence"] == "inf" and report["D(Q‖P)"]["how"] == "a sum over all actions"
    assert report["D(Q‖P)"]["divergence"] == pytest.approx(-np.log(0.2))
    assert json.loads(cli(*argv)[1]) == report
    assert "P does what Q never does" in cli(*[arg for arg in argv if arg != "--json"])[1]


def test_what_is_written_is_what_is_meant():
    with jax.enable_x64(True):
        peaks = module.distribution("mixture(0.25*normal(-2, 0.5) + normal([2], 1.5)*0.75)")
        assert isinstance(peaks, Mixture) and isinstance(peaks.parts[1], DiagGaussian)
        np.testing.assert_allclose(np.exp(peaks.log_weights), [0.25, 0.75])
        np.testing.assert_allclose(np.exp(peaks.parts[1].log_std), [1.5])
        several = module.distribution("normal([0, 1], 2)")
        np.testing.assert_allclose([several.mean, np.exp(several.log_std)], [[0, 1], [2, 2]])
        tanh, beta = (module.distribution(text) for text in ("tanh_normal(0, 1)", "beta(2, 3, 0, 4)"))
        assert isinstance(tanh, TanhGaussian) and (tanh.low, tanh.high) == (-1, 1)
        assert isinstance(beta, Beta) and (beta.alpha, beta.beta, beta.low, beta.high) == (2, 3, 0, 4)
        masked = module.distribution("categorical(0, 0.4, 0.6)")
        assert isinstance(masked, Categorical)
        np.testing.assert_allclose(jax.nn.softmax(masked.logits), [0, 0.4, 0.6])
        bits = module.distribution("bernoulli(0.3, 0, 1)")
        np.testing.assert_allclose(jax.nn.sigmoid(bits.logits), [0.3, 0, 1])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["categorical(0.2, 0.9)", "categorical(1, 0)"], "categorical: the probabilities sum to 1.1, not to 1"),
        (["categorical(-0.2, 1.2)", "categorical(1, 0)"], "one of the probabilities is -0.2; it must be 0 or more"),
        (["bernoulli(1.3)", "bernoulli(0.5)"], "bernoulli: a probability is 1.3; it must be from 0 to 1"),
        (["normal(0, 0)", "normal(0, 1)"], "normal: std is 0; it must be positive"),
        (["normal(0)", "normal(0, 1)"], "normal has 1 arguments; write normal(mean, std)"),
        (["normal([0, 1], [1, 2, 3])", "normal(0, 1)"], "lists have different lengths"),
        (["normal(0, x)", "normal(0, 1)"], "'x' in 'normal(0, x)' is no number"),
        (["normal(0, 1e999)", "normal(0, 1)"], "no finite number"),
        (["norml(0, 1)", "normal(0, 1)"], "no distribution 'norml': did you mean normal?"),
        (["normal(0, 1", "normal(0, 1)"], "is no distribution: write it like normal(0, 1)"),
        (["__import__('os').system('true')", "normal(0, 1)"], "is no distribution: write it like"),
        (["beta(0.5, 2)", "beta(1, 1)"], "beta: a is 0.5; it must be at least 1"),
        (["tanh_normal(0, 1, 2, 1)", "beta(1, 1)"], "high is 1; it must be above low"),
        (["mixture(0.5*normal(0, 1) + 0.6*normal(0, 1))", "normal(0, 1)"], "mixture: the weights sum to 1.1"),
        (["mixture(normal(0, 1))", "normal(0, 1)"], "has no weight: write it like 0.5*normal(0, 1)"),
        (["mixture(0.5*normal(0, 1) + 0.5*bernoulli(0.5))", "normal(0, 1)"], "parts of a mixture must be"),
        (["categorical(0.5, 0.5)", "normal(0, 1)"], "P is over 2 choices and Q over numbers"),
        (["normal(0, 1)"], "give two distributions"),
        (["normal(0, 1)", "normal(0, 1)", "--n", "1"], "at least 2 samples"),
        (["normal(0, 1)", "normal(0, 1)", "--pictur", "x"], "did you mean --picture?"),
        (["beta(2, 2)", "beta(2, 2)", "--picture", "there"], "fits one normal(mean, std)"),
        (["beta(2, 2)", "normal(0, 0.01)", "--picture", "there"], "DiagGaussian does what Beta never does"),
        (["mixture(1*tanh_normal(0, 1))", "normal(0, 0.01)", "--picture", "there"], "what Mixture never does"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(cli, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("kl", *argv)
    assert code == 2 and out == "" and err.count("\n") == 1 and words in err
    assert not list(tmp_path.iterdir())


def test_the_picture(cli, tmp_path, monkeypatch):
    """Few steps and frames: a GIF that moves, and its last frame as a PNG."""
    monkeypatch.setattr(module, "STEPS", 6)
    monkeypatch.setattr(module, "FRAMES", 3)
    monkeypatch.setattr(module, "FPS", 1)
    code, out, _ = cli("kl", "--picture", str(tmp_path / "new"))
    assert code == 0 and f"made: {tmp_path}/new/kl.gif" in out
    assert "forward: D(P‖Q), covers: normal(" in out and "reverse: D(Q‖P), seeks: normal(" in out
    with Image.open(tmp_path / "new" / "kl.gif") as gif:
        assert gif.n_frames == 4 and gif.size == (800, 320)
    with Image.open(tmp_path / "new" / "kl.png") as png:
        assert np.asarray(png.convert("RGB")).std() > 10
    (tmp_path / "taken").write_text("")
    code, _, err = cli("kl", "--picture", str(tmp_path / "taken"))
    assert code == 2 and "is a file: give a folder" in err
