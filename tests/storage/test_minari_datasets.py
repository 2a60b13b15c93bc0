"""Minari: what we write is read back, by us and by Minari, and what Minari collected is read."""

import gymnasium
import jax
import numpy as np
import pytest

from policygrad.run.recording import require_free
from policygrad.storage.datasets import Dataset, DatasetError
from policygrad.storage.formats import read_dataset, write_dataset
from policygrad.types import MaskedObs

minari = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def example(obs, action, log_mu=True, **about):
    return Dataset(
        obs=obs,
        action=action,
        reward=np.array([1, 2, 4], np.float32),
        log_mu=np.log(np.array([0.5, 0.25, 0.125], np.float32)) if log_mu else None,
        length=np.array([2, 1]),
        terminated=np.array([True, False]),
        final_obs=jax.tree.map(lambda x: x[:2] + x.dtype.type(1), obs),
        about=about,
    )


FLOATS, INTS = np.arange(12, dtype=np.float32).reshape(3, 4), np.array([1, 0, 1], np.int32)
CASES = {
    "gymnasium's": example(FLOATS, INTS, env="CartPole-v1"),
    "spaces unknown": example({"a": FLOATS, "b": (INTS, FLOATS[:, :1])}, FLOATS[:, :2], log_mu=False, env="own"),
    "masks": example(MaskedObs(INTS, FLOATS[:, :2] > 1)._replace(mask=np.array([[1, 0]] * 3, np.int32)), INTS),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_read(name):
    before = CASES[name]
    if isinstance(before.obs, MaskedObs):
        true = lambda obs: obs._replace(mask=np.ones(obs.mask.shape, bool))  # noqa: E731
        before = before._replace(obs=true(before.obs), final_obs=true(before.final_obs))
    write_dataset("minari:test/it-v0", before)
    after = read_dataset("minari:test/it-v0")
    assert jax.tree.structure(before[:-1]) == jax.tree.structure(after[:-1]) and before.about == after.about
    for x, y in zip(jax.tree.leaves(before[:-1]), jax.tree.leaves(after[:-1])):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_minari_reads_ours(here):
    write_dataset("minari:test/it-v0", CASES["gymnasium's"])
    theirs = minari.load_dataset("test/it-v0")
    assert theirs.env_spec.id == "CartPole-v1" and theirs.total_episodes == 2
    np.testing.assert_array_equal(theirs[0].observations[-1], FLOATS[0] + 1)
    assert theirs[1].truncations[-1] and not theirs[1].terminations[-1]
    folder = read_dataset(f"minari:{here / 'test' / 'it-v0'}")
    np.testing.assert_array_equal(folder.reward, [1, 2, 4])


def test_what_minari_collected_is_read():
    env = minari.DataCollector(gymnasium.make("CartPole-v1", max_episode_steps=12))
    lengths, last = [], []
    for seed in range(3):
        env.reset(seed=seed)
        for t in range(20):
            obs, _, terminated, truncated, _ = env.step(t % 2 if seed else 0)
            if terminated or truncated:
                lengths.append(t + 1)
                last.append((terminated, obs))
                break
    env.create_dataset("test/collected-v0", algorithm_name="by hand", author="a", author_email="a", code_permalink="a")
    found = read_dataset("minari:test/collected-v0")
    assert found.length.tolist() == lengths and found.about["env"] == "CartPole-v1"
    assert found.terminated.tolist() == [end for end, _ in last] and found.log_mu is None
    np.testing.assert_array_equal(found.final_obs, np.stack([obs for _, obs in last]))
    assert found.action.dtype == np.int32 and found.action[: lengths[0]].sum() == 0


def test_nothing_is_downloaded_and_nothing_overwritten(here):
    with pytest.raises(DatasetError, match="nothing is downloaded here"):
        read_dataset("minari:test/none-v0")
    for name in ("Test it", "nope", "test/nope"):
        with pytest.raises(DatasetError, match="is no Minari id with a version"):
            read_dataset(f"minari:{name}")
        with pytest.raises(DatasetError, match="is no Minari id with a version"):
            write_dataset(f"minari:{name}", CASES["gymnasium's"])
    with pytest.raises(DatasetError, match="is no Minari id"):
        require_free(f"minari:{here}")
    write_dataset("minari:test/it-v0", CASES["gymnasium's"])
    with pytest.raises(DatasetError, match="such as test/it-v1"):
        write_dataset("minari:test/it-v0", CASES["gymnasium's"])
