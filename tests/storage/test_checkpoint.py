import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy

from policygrad.storage import checkpoint
from policygrad.storage.checkpoint import CheckpointError, load, read_meta, read_recipe, save

RECIPE = {"algo": "a2c", "gamma": 0.99, "rho_bar": float("inf"), "layers": [64, 64]}


def a_state() -> dict:
    """A run's state in small: parameters, an optimiser's NamedTuples, keys of two generators, every awkward dtype."""
    params = {"torso": [np.arange(6, dtype=np.float32).reshape(2, 3)], "bias": None}
    return {
        "params": params,
        "optimizer": optax.adam(1e-3).init(jax.tree.map(jnp.asarray, params)),
        "key": jax.random.key(7),
        "env_keys": jax.random.split(jax.random.key(1, impl="rbg"), 3),
        "done": jnp.array([True, False]),
        "half": jnp.ones(3, jnp.bfloat16),
        "double": np.linspace(0, 1, 3),
        "empty": jnp.zeros((0, 4)),
        "strided": np.arange(12.0).reshape(3, 4).T,
        "learning_rate": jnp.asarray(3e-4),
        "steps": 12,
        "best": 1.5,
        "solved": False,
    }


def bits(leaf) -> tuple:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    array = np.asarray(leaf)
    return type(leaf).__module__, array.dtype, array.shape, array.tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "last.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    save(path, {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}, recipe=RECIPE, meta={"step": 5})
    return path


LIKE = {"w": jax.ShapeDtypeStruct((2, 3), jnp.float32), "b": jax.ShapeDtypeStruct((3,), jnp.float32)}


def test_every_kind_of_leaf_survives(path):
    state = a_state()
    save(path, state, recipe=RECIPE, meta={"step": 5})
    again = load(path, state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert list(map(bits, jax.tree.leaves(again))) == list(map(bits, jax.tree.leaves(state)))
    assert again["learning_rate"].weak_type
    assert (type(again["steps"]), type(again["best"]), type(again["solved"])) == (int, float, bool)
    np.testing.assert_array_equal(jax.random.uniform(again["key"], (2,)), jax.random.uniform(state["key"], (2,)))
    assert read_recipe(path) == RECIPE
    assert read_meta(path) == {"step": 5}


def test_nan_payloads_and_signed_zeros_survive(path):
    words = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0x00000001], np.uint32)
    save(path, {"x": jnp.array(words.view(np.float32))}, recipe={})
    again = load(path, {"x": jax.ShapeDtypeStruct((5,), jnp.float32)})
    np.testing.assert_array_equal(np.asarray(again["x"]).view(np.uint32), words)


def test_another_byte_order_is_stored_in_ours(path):
    x = np.arange(3, dtype=">f4")
    save(path, {"x": x}, recipe={})
    np.testing.assert_array_equal(load(path, {"x": x})["x"], x)


def test_a_tree_may_be_one_leaf(path):
    save(path, jnp.arange(3), recipe={})
    np.testing.assert_array_equal(load(path, jnp.zeros(3, jnp.int32)), [0, 1, 2])


def test_like_may_be_abstract(path):
    def make():
        return {"key": jax.random.key(3), "x": jnp.ones((2, 2))}

    save(path, make(), recipe={})
    again = load(path, jax.eval_shape(make))
    assert jnp.array_equal(jax.random.key_data(again["key"]), jax.random.key_data(jax.random.key(3)))


def test_leaf_names_are_readable_and_the_header_tells_the_tree(path):
    save(path, {"optimizer": optax.adam(1e-3).init({"w": jnp.ones(2)}), "key": jax.random.key(0)}, recipe={})
    with safetensors.safe_open(path, framework="np") as file:
        header = file.metadata()
    assert json.loads(header["leaves"]) == [
        ["key", "key:threefry2x32", []],
        ["optimizer/0/count", "int32", []],
        ["optimizer/0/mu/w", "float32", [2]],
        ["optimizer/0/nu/w", "float32", [2]],
    ]
    assert (header["format"], header["format_version"]) == ("policygrad-checkpoint", "1")


# What cannot be saved


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"f": jnp.tanh}, "leaf 'f' is a .*, no array; save eqx.filter"),
        ({"s": np.array(["a"])}, "leaf 's' of dtype <U1 cannot be stored"),
        ({"o": np.array([None])}, "leaf 'o' of dtype object cannot be stored"),
        ({"__metadata__": np.ones(1)}, "leaf '__metadata__' .* rename it"),
        ({"a": {"b": np.ones(1)}, "a/b": np.ones(1)}, "two leaves have the same path"),
    ],
)
def test_what_is_no_array_is_refused_and_the_earlier_file_stays(saved, tree, message):
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        save(saved, tree, recipe={})
    assert saved.read_bytes() == before


def test_a_recipe_that_is_not_json_is_refused(path):
    with pytest.raises(CheckpointError, match="the recipe is not JSON"):
        save(path, {}, recipe={"env": object()})
    assert not path.exists()


# What cannot be loaded: each fault has a sentence of its own


def test_a_missing_file(path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load(path, LIKE)


def test_a_folder(saved):
    with pytest.raises(CheckpointError, match="is a folder; name the checkpoint file"):
        load(saved.parent, LIKE)


def test_an_empty_file(saved):
    saved.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        load(saved, LIKE)


@pytest.mark.parametrize("kept", [3, 8, 20, -30, -1])
def test_a_truncated_file(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is truncated"):
        load(saved, LIKE)


@pytest.mark.parametrize(
    "junk",
    [
        b"hello, this is a text file",
        b"\x80\x04\x95pickle.....",
        b"\x05" + bytes(7) + b"{nope",
        b"\x02" + bytes(7) + b"{}x",
    ],
)
def test_no_safetensors_file(saved, junk):
    saved.write_bytes(junk)
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        load(saved, LIKE)


def test_appended_bytes(saved):
    saved.write_bytes(saved.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        load(saved, LIKE)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_another_programs_file(saved, metadata):
    saved.write_bytes(safetensors.numpy.save({"w": np.ones(3)}, metadata=metadata))
    with pytest.raises(CheckpointError, match="of another program"):
        load(saved, LIKE)


@pytest.mark.parametrize("read", [lambda path: load(path, LIKE), read_recipe, read_meta])
@pytest.mark.parametrize("edit", [(b"0.99", b"0.90"), (b'\\"step\\": 5', b'\\"step\\": 6'), (b'"w":', b'"v":')])
def test_an_edited_header_is_found(saved, edit, read):
    data = saved.read_bytes()
    assert data.count(edit[0]) == 1
    saved.write_bytes(data.replace(*edit))
    with pytest.raises(CheckpointError, match="damaged or was edited"):
        read(saved)


def test_a_flipped_bit_is_found(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or was edited"):
        load(saved, LIKE)


def test_a_newer_format(saved, monkeypatch):
    with monkeypatch.context() as future:
        future.setattr(checkpoint, "FORMAT_VERSION", 2)
        future.setattr(checkpoint, "_library_version", lambda: "3.1.4")
        save(saved, {}, recipe={})
    with pytest.raises(CheckpointError, match=r"by policygrad 3.1.4, format 2; this is format 1: upgrade policygrad"):
        load(saved, {})


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({**LIKE, "c": struct(2)}, "it lacks leaf 'c'"),
        ({"w": struct(2, 3)}, "it has leaf 'b', unknown here"),
        ({**LIKE, "w": struct(3, 2)}, r"leaf 'w' is float32\[2,3\] in the file and float32\[3,2\] here"),
        ({**LIKE, "w": struct(2, 3, dtype=jnp.int32)}, r"leaf 'w' is float32\[2,3\] in the file and int32\[2,3\] here"),
        (
            {**LIKE, "b": jax.random.split(jax.random.key(0), 3)},
            r"leaf 'b' is float32\[3\] in the file and key<fry>\[3\]",
        ),
    ],
)
def test_leaves_that_do_not_fit(saved, like, message):
    with pytest.raises(CheckpointError, match=f"does not fit: {message}.*recipe"):
        load(saved, like)


def test_a_key_of_another_generator_does_not_fit(path):
    save(path, jax.random.key(0, impl="rbg"), recipe={})
    with pytest.raises(CheckpointError, match=r"key<rbg>\[\] in the file and key<fry>\[\] here"):
        load(path, jax.random.key(0))


def test_float64_without_x64_is_refused_not_rounded(path):
    save(path, np.ones(2), recipe={})
    with pytest.raises(CheckpointError, match="jax_enable_x64"):
        load(path, jax.ShapeDtypeStruct((2,), np.float64))


# Killed writers


WRITER = """
import os, sys
import numpy as np
from policygrad.storage import checkpoint

def stop_here(descriptor):  # the bytes are written, the file is not yet renamed
    print("writing", flush=True)
    sys.stdin.read()

for step in range(1_000_000):
    if sys.argv[2] == "in the middle" and step == 1:
        os.fsync = stop_here
    checkpoint.save(sys.argv[1], {"x": np.full(100_000, step)}, recipe={}, meta={"step": step})
    print(step, flush=True)
"""


def start_writer(path: Path, mode: str) -> subprocess.Popen:
    source = str(Path(checkpoint.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    command = [sys.executable, "-c", WRITER, str(path), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def stored_step(path: Path) -> int:
    values = load(path, {"x": np.zeros(100_000, int)})["x"]
    assert (values == values[0]).all()
    assert read_meta(path) == {"step": values[0]}
    return int(values[0])


def test_kill_in_the_middle_of_a_save_leaves_the_earlier_file(path):
    with start_writer(path, "in the middle") as writer:
        assert [writer.stdout.readline().strip() for _ in range(2)] == ["0", "writing"]
        writer.kill()
    assert stored_step(path) == 0
    assert len(list(path.parent.iterdir())) == 2  # the checkpoint and what the killed writer left
    save(path, {}, recipe={})
    assert list(path.parent.iterdir()) == [path]


def test_kill_among_many_saves_leaves_a_whole_file(path):
    with start_writer(path, "anywhere") as writer:
        for expected in range(20):
            assert int(writer.stdout.readline()) == expected
        writer.kill()
    assert stored_step(path) >= 19


def test_a_failed_write_leaves_nothing_half_written(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        save(saved, {}, recipe={})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
