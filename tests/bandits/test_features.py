"""Columns become features the same way everywhere, and classes become rewards."""

import json
import subprocess
import sys

import numpy as np
import pytest

from policygrad.bandits import Encoder, fit_encoder, hash_features, load_table, rewards_of
from policygrad.bandits.features import slot_of

COLUMNS = {
    "age": np.array([20.0, 40.0, 60.0]),
    "town": np.array(["Bern", "Rom", "Bern"]),
    "member": np.array([True, False, True]),
}


def test_numbers_are_standardised_and_words_are_indicators():
    encoder = fit_encoder(COLUMNS)
    assert encoder.n_features == 5 and encoder.names == ("age", "member", "town")
    z, m = np.sqrt(1.5), np.sqrt(2) / 2
    expected = [[-z, m, 1, 0, 1], [0, -2 * m, 0, 1, 1], [z, m, 1, 0, 1]]
    np.testing.assert_allclose(encoder(COLUMNS), expected, rtol=1e-6)
    np.testing.assert_allclose(encoder({"age": 40.0, "town": "Oslo", "member": False}), [0, -2 * m, 0, 0, 1], rtol=1e-6)


def test_an_encoder_survives_json():
    for bits in (None, 6):
        encoder = fit_encoder(COLUMNS, bits)
        assert Encoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder


def test_hashed_features_are_where_their_names_say():
    encoder = fit_encoder(COLUMNS, bits=6)
    row = encoder({"age": 60.0, "town": "Oslo", "member": True})
    alone = hash_features({"age": np.sqrt(1.5), "town": "Oslo", "member": np.sqrt(2) / 2}, 6)
    assert row.shape == (65,) and row[-1] == 1
    np.testing.assert_allclose(row, alone, rtol=1e-6)


def test_the_hash_is_the_same_in_every_process():
    """Python's own hash of a string is another in every process; these numbers are for ever."""
    code = "from policygrad.bandits.features import slot_of; print(slot_of('town=Bern', 18), slot_of('age', 18))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == f"{slot_of('town=Bern', 18)} {slot_of('age', 18)}" == GOLDEN


GOLDEN = "(204508, 1) (124891, -1)"


def test_hashing_keeps_inner_products_on_average():
    """Signs make collisions cancel: over many names the inner product of two rows is right, with 2^4 slots only."""
    one = [hash_features({f"{salt}a": 1.0, f"{salt}b": 2.0, f"{salt}c": "x"}, 4)[:-1] for salt in range(4000)]
    two = [hash_features({f"{salt}a": 3.0, f"{salt}d": 5.0, f"{salt}c": "x"}, 4)[:-1] for salt in range(4000)]
    products = np.einsum("ti,ti->t", one, two)
    assert abs(products.mean() - 4.0) < 4 * products.std() / np.sqrt(4000) and products.std() > 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"age": np.zeros(2), "town": np.array(["a", "b"])}, "column 'member' is missing; the bandit was made for age"),
        ({**COLUMNS, "age": np.array([1.0, np.nan, 2.0])}, "column 'age' has no finite number in row 1"),
        ({**COLUMNS, "age": np.array(["old", "new", "x"])}, "column 'age' holds words"),
    ],
)
def test_columns_that_do_not_fit(columns, words):
    with pytest.raises(ValueError, match=words):
        fit_encoder(COLUMNS)(columns)


@pytest.mark.parametrize(
    ("columns", "bits", "words"), [({}, None, "no column of features"), (COLUMNS, 40, "bits is 40")]
)
def test_encoders_that_cannot_be(columns, bits, words):
    with pytest.raises(ValueError, match=words):
        fit_encoder(columns, bits)


def test_a_csv_becomes_a_table(tmp_path):
    path = tmp_path / "fruit.csv"
    path.write_text("colour,weight,kind\nred,150,apple\nyellow,120,banana\nred,160,apple\n")
    table = load_table(str(path), "kind")
    assert table.classes == ("apple", "banana") and table.label.tolist() == [0, 1, 0]
    assert list(table.columns) == ["colour", "weight"]
    np.testing.assert_array_equal(rewards_of(table.label, 2), [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(rewards_of(table.label, 2, losses=True), [[0, 1], [1, 0], [0, 1]])


def test_the_bundled_sets():
    table = load_table("iris")
    assert table.classes == ("setosa", "versicolor", "virginica") and table.label.shape == (150,)
    assert table.columns["petal width (cm)"].shape == (150,)


@pytest.mark.parametrize(
    ("text", "label", "words"),
    [
        ("a,b\n1,x\n2,y\n", None, "which column of .* is the label.*a, b"),
        ("a,b\n1,x\n2,y\n", "c", "has no column 'c'; it has a, b"),
        ("a,b\n1,x\n2,x\n", "b", "all rows .* have the label 'x'"),
        ("a,b\n1,x\n2,\n", "b", "row 1 of .* has no label"),
        ("a,b\n1,0.5\n2,1.5\n", "b", "must be words, whole numbers or truths"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, label, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_table(str(path), label)


def test_an_unknown_set_or_class_is_named(tmp_path):
    with pytest.raises(ValueError, match="no data 'mnist': give a"):
        load_table("mnist")
    path = tmp_path / "more.csv"
    path.write_text("a,b\n1,x\n2,z\n")
    with pytest.raises(ValueError, match="label 'z'; the bandit's actions are x, y"):
        load_table(str(path), "b", ("x", "y"))
