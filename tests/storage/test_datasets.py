"""Datasets: what is written is read, and episodes become padded trajectories with their true ends."""

import numpy as np
import pytest

from policygrad.storage import datasets, tables


def example(log_mu=True):
    """Three episodes of 2, 1 and 3 rows; the second was cut."""
    return datasets.Dataset(
        obs={"a": np.arange(6.0)[:, None], "b": (np.arange(6), np.arange(6, 12))},
        action=np.array([0, 1, 0, 1, 1, 0]),
        reward=np.array([1.0, 2, 4, 8, 16, 32], np.float32),
        log_mu=np.log(np.full(6, 0.5)) if log_mu else None,
        length=np.array([2, 1, 3]),
        terminated=np.array([True, False, True]),
        final_obs={"a": np.array([[7.0], [8], [9]]), "b": (np.arange(3), np.arange(3))},
        about={"env": "Line-v0"},
    )


@pytest.mark.parametrize("log_mu", [True, False])
def test_saved_and_loaded(tmp_path, log_mu):
    before = example(log_mu)
    datasets.save(tmp_path / "d.safetensors", before)
    after = datasets.load(tmp_path / "d.safetensors")
    assert after.about == before.about and (after.log_mu is None) == (not log_mu)
    np.testing.assert_array_equal(after.obs["b"][1], before.obs["b"][1])
    assert after.obs["b"][1].dtype == before.obs["b"][1].dtype
    np.testing.assert_array_equal(after.returns, [3, 4, 56])


def test_fingerprint_tells_every_change_of_an_array(tmp_path):
    before = example()
    datasets.save(tmp_path / "d.safetensors", before)
    known = datasets.fingerprint(before)
    assert datasets.fingerprint(datasets.load(tmp_path / "d.safetensors")) == known
    assert datasets.fingerprint(before._replace(about={"env": "Other-v0"})) == known
    others = [
        before._replace(reward=before.reward[::-1]),
        before._replace(action=before.action.astype(np.int32)),
        before._replace(action=before.action[:, None]),
        before._replace(log_mu=None),
        before._replace(obs=before.obs | {"b": before.obs["b"][::-1]}),
        before._replace(length=np.array([1, 2, 3])),
    ]
    assert len({known, *map(datasets.fingerprint, others)}) == 7


def test_trajectories_pad_and_cut():
    t = datasets.trajectories(example(), [2, 1], pad_to=4)
    np.testing.assert_array_equal(t.mask.T, [[1, 1, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(t.reward.T, [[8, 16, 32, 0], [4, 0, 0, 0]])
    np.testing.assert_array_equal(t.terminated.T, [[0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(t.truncated.T, [[0, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(t.obs["a"][:, 0, 0], [3, 4, 5, 5])
    np.testing.assert_array_equal(t.cut_obs["a"][0, :, 0], [9, 8])
    with pytest.raises(ValueError, match="longer limit"):
        datasets.trajectories(example(), pad_to=2)


def test_join_of_parts_is_the_whole():
    whole = example()
    again = datasets.join([datasets.select(whole, [0]), datasets.select(whole, [1, 2])])
    np.testing.assert_array_equal(again.obs["a"], whole.obs["a"])
    np.testing.assert_array_equal(again.length, whole.length)
    np.testing.assert_array_equal(again.final_obs["a"], whole.final_obs["a"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"length": np.array([2, 1, 2])}, "add up"),
        ({"reward": np.array([1, 2, np.nan, 4, 5, 6])}, "reward is not finite in row 2"),
        ({"action": np.zeros(5)}, "action has 5 entries"),
        ({"log_mu": np.array([0, 0, 0, -np.inf, 0, 0])}, "log_mu is not finite in row 3"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(datasets.DatasetError, match=words):
        datasets.check(example()._replace(**change))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(datasets.DatasetError, match="there is no dataset"):
        datasets.load(tmp_path / "none.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"hello")
    with pytest.raises(datasets.DatasetError, match="no readable dataset"):
        datasets.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_come_back(tmp_path, suffix):
    pytest.importorskip("pyarrow")
    columns = {
        "n": np.array([1, 2]),
        "x": np.array([0.5, 1e-9]),
        "who": np.array(["a", "b"]),
        "is": np.array([True, False]),
    }
    tables.write_table(tmp_path / f"t{suffix}", columns)
    back = tables.read_table(tmp_path / f"t{suffix}")
    assert list(back) == list(columns)
    for name, column in columns.items():
        assert back[name].dtype.kind == column.dtype.kind
        np.testing.assert_array_equal(back[name], column)


def test_tables_name_what_is_wrong(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.csv").write_text("a,a\n1,2\n")
    with pytest.raises(tables.TableError, match="two columns called 'a'"):
        tables.read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n1\n")
    with pytest.raises(tables.TableError, match="no readable csv"):
        tables.read_table(tmp_path / "t.csv")
    with pytest.raises(tables.TableError, match="must end in"):
        tables.read_table(tmp_path / "t.xls")
    with pytest.raises(tables.TableError, match="no column 'label'; it has a, b"):
        tables.column("t.csv", {"a": np.zeros(1), "b": np.zeros(1)}, "label")
