"""Tables of transitions: what is written comes back, what does not fit is named."""

import numpy as np
import pytest

from policygrad.storage.datasets import Dataset, DatasetError
from policygrad.storage.formats import read_dataset, write_dataset

pytest.importorskip("pyarrow")

BASE = "episode,obs_0,obs_1,action,reward,terminated,truncated"
ROWS = ["7,0,1,1,1,0,0", "3,5,6,0,2,0,0", "7,2,3,0,4,1,0", "3,7,8,1,8,0,0", "3,9,9,0,16,0,1"]
"""Two episodes, mixed: 7 ends after two rows, 3 is cut after three."""


def read(tmp_path, lines, **options):
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    return read_dataset(tmp_path / "log.csv", **options)


def example(obs, action):
    n = 5
    return Dataset(
        obs=obs, action=action, reward=np.arange(n, dtype=np.float32), log_mu=np.log(np.full(n, 0.3, np.float32)),
        length=np.array([2, 3]), terminated=np.array([True, False]), final_obs=obs[:2] + 1, about={},
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("obs", "action"),
    [
        (np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.array([0, 1, 2, 1, 0], np.int32)),
        (np.arange(5, dtype=np.int32), np.random.default_rng(1).normal(size=(5, 1)).astype(np.float32)),
    ],
)
def test_a_table_comes_back(tmp_path, suffix, obs, action):
    before = example(obs, action)
    write_dataset(tmp_path / f"t{suffix}", before)
    after = read_dataset(tmp_path / f"t{suffix}")
    for name in ("obs", "action", "reward", "log_mu", "length", "terminated", "final_obs"):
        x, y = getattr(before, name), getattr(after, name)
        assert x.dtype == y.dtype, name
        np.testing.assert_array_equal(x, y, name)


def test_rows_find_their_episodes_and_the_cut_row_is_a_successor(tmp_path):
    with pytest.warns(UserWarning, match="last row of each of 1 cut episodes"):
        found = read(tmp_path, [BASE, *ROWS])
    np.testing.assert_array_equal(found.length, [2, 2])
    np.testing.assert_array_equal(found.reward, [1, 4, 2, 8])
    np.testing.assert_array_equal(found.final_obs[1], [9, 9])
    np.testing.assert_array_equal(found.terminated, [True, False])
    assert found.log_mu is None and found.action.dtype == np.int32


def test_steps_order_the_rows(tmp_path):
    lines = ["episode,step,obs,action,reward,terminated", "0,1,4,0,10,1", "0,0,3,1,5,0"]
    found = read(tmp_path, lines)
    np.testing.assert_array_equal(found.reward, [5, 10])
    assert found.obs.dtype == np.int32 and found.obs.shape == (2,)


def test_blank_successor_of_an_end(tmp_path):
    found = read(tmp_path, ["episode,obs,action,reward,terminated,next_obs", "0,3,1,5,0,4", "0,4,0,10,1,"])
    np.testing.assert_array_equal(found.final_obs, [4])


def test_probabilities_give_log_mu(tmp_path):
    lines = [
        "episode,obs,action,reward,terminated,probabilities_0,probabilities_1",
        "0,3,1,5,0,.2,.8",
        "0,4,0,1,1,.5,.5",
    ]
    np.testing.assert_allclose(read(tmp_path, lines).log_mu, np.log([0.8, 0.5]), rtol=1e-6)


HEAD = "episode,obs,action,reward,terminated"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEAD + ",colour", "0,0,0,1,1,red"], r"unknown columns \(colour\).*--ignore-columns colour.*propensity"),
        (["episode,obs,action,reward", "0,0,0,1"], "no column 'terminated'"),
        (["episode,action,reward,terminated", "0,0,1,1"], "no column 'obs'"),
        (
            [HEAD + ",propensity", "0,0,0,1,0,0.5", "0,0,1,1,1,0"],
            r"propensity of action 1 in episode 0 is 0: .*\(0, 1\]",
        ),
        ([HEAD + ",propensity", "0,0,0,1,1,1.5"], r"is 1.5: .*\(0, 1\]"),
        ([HEAD + ",propensity,log_mu", "0,0,0,1,1,1,0"], "both log_mu and propensity"),
        ([HEAD + ",probabilities_0,probabilities_1", "4,0,0,1,1,.2,.7"], "probabilities of episode 4 sum to 0.9"),
        ([HEAD + ",probabilities_0,probabilities_1", "4,0,2,1,1,.3,.7"], "action 2 of episode 4 has no probability"),
        ([HEAD + ",probabilities_1", "4,0,0,1,1,.2"], "no probabilities_0"),
        ([HEAD, "0,0,0,1,1", "0,0,0,1,1"], "episode 0 goes on after its end"),
        ([HEAD, "0,0,0,1,0"], "cut has one row"),
        ([HEAD, "0,0,0,1,0", "0,0,0,,1"], "reward is not finite in row 1"),
        ([HEAD, "0,0,left,1,1"], "action holds words"),
        ([HEAD, "0,0,0,1,2"], "terminated must be true or false"),
        ([HEAD + ",step", "0,0,0,1,0,0", "0,0,0,1,1,2"], "steps of episode 0 are not 0, 1, 2"),
        ([HEAD + ",step", "0,0,0,1,0,0", "0,0,0,1,1,two"], "step is 'two' in row 1: .* whole number"),
        ([HEAD + ",step", "0,0,0,1,0,0", "0,0,0,1,1,"], "step is empty in row 1: .* whole number"),
        ([HEAD + ",step", "0,0,0,1,0,", "0,0,0,1,1,"], "step is empty in row 0"),
        ([HEAD + ",step", "0,0,0,1,0,0", "0,0,0,1,1,0.5"], "step is '0.5' in row 1"),
        ([HEAD + ",step", "0,0,0,1,0,true", "0,0,0,1,1,false"], "step is 'True' in row 0"),
        ([HEAD + ",step", "0,0,0,1,1,1", "4,0,0,1,1,6", "4,0,0,1,0,5"], "episode 4 begins with step 5, not 0 or 1"),
        ([HEAD, "0,0,0,1,1", ",0,0,1,1"], "episode is empty in row 1"),
        ([HEAD, "a,0,0,1,1", ",0,0,1,1"], "episode is empty in row 1"),
        ([HEAD + ",next_obs", "0,1,0,1,0,7", "0,8,0,1,1,9"], "next_obs of episode 0 is not the obs"),
        ([HEAD + ",obs_0", "0,1,0,1,1,7"], "both obs and obs_0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, lines, words):
    with pytest.raises(ValueError, match=words):
        read(tmp_path, lines)


def test_columns_are_ignored_by_name(tmp_path):
    lines = [HEAD + ",colour", "0,0,0,1,1,red"]
    assert read(tmp_path, lines, ignore_columns=["colour"]).rows == 1
    with pytest.raises(DatasetError, match="no column 'color' to ignore"):
        read(tmp_path, lines, ignore_columns=["color"])


def test_a_name_must_say_a_format(tmp_path):
    with pytest.raises(DatasetError, match=r"\.safetensors, \.csv or \.parquet"):
        read_dataset("log.txt")
    with pytest.raises(DatasetError, match="only tables have columns"):
        read_dataset("x.safetensors", ignore_columns=["a"])
    pictures = example(np.zeros((5, 2, 2), np.float32), np.zeros(5, np.int32))
    with pytest.raises(DatasetError, match=r"write \.safetensors"):
        write_dataset(tmp_path / "x.csv", pictures)
    assert not list(tmp_path.iterdir())
