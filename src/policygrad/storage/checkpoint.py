"""Checkpoints: one pytree of arrays in one safetensors file, with the recipe as JSON inside.

A run's whole state (parameters, optimiser, normaliser, environment, random key, counters) is one pytree, so saving it
is saving the run:

    save("last.safetensors", state, recipe={"algo": "a2c", "gamma": 0.99})
    state = load("last.safetensors", like=jax.eval_shape(init, key))

Bit patterns survive, those of NaNs included. Nothing is unpickled: a file from a stranger can be wrong, but it cannot
run code. The checksum finds damage and careless edits; it is no signature.

The header's metadata, all strings: ``format``, ``format_version``, ``policygrad`` (the library's version), ``recipe``
and ``meta`` (JSON objects), ``leaves`` (JSON: ``[name, dtype, shape]`` in the order of the tree) and ``sha256`` (of all
that and of the tensors).
"""

import glob
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

FORMAT = "policygrad-checkpoint"
FORMAT_VERSION = 1
KEY = "key:"
"""Prefix of the dtype of a typed random key; the generator's name follows, as in ``key:threefry2x32``."""
STORABLE = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {
    *("bool", "float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64", "complex64")
}
"""The dtypes that safetensors and JAX share."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read, or used for this run."""


def save(path: str | os.PathLike, tree: PyTree, *, recipe: dict, meta: dict | None = None) -> None:
    """Write ``tree`` to ``path`` atomically: whatever happens, the file is the earlier checkpoint or this one, whole.

    Leaves are arrays of any shape (typed random keys included), NumPy arrays, or Python numbers; None is no leaf.
    ``recipe`` (how to build the tree again) and ``meta`` (whatever else, such as the step) must be JSON; a tuple comes
    back as a list.
    """
    named = _named_leaves(tree)
    stored = {name: _to_stored(name, leaf) for name, leaf in named.items()}
    arrays = {name: _native(name, data) for name, (_, data) in stored.items()}
    table = [[name, dtype or _name(arrays[name].dtype), np.shape(named[name])] for name, (dtype, _) in stored.items()]
    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "policygrad": _library_version(),
        "recipe": _to_json("recipe", recipe),
        "meta": _to_json("meta", meta or {}),
        "leaves": json.dumps(table),
    }
    header["sha256"] = _digest(header, {name: array.reshape(-1).view(np.uint8).data for name, array in arrays.items()})
    try:
        write_atomically(path, safetensors.numpy.save(arrays, metadata=header))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}; free space or choose another folder"
        ) from error


def load(path: str | os.PathLike, like: PyTree) -> PyTree:
    """The tree stored in ``path``, in the structure of ``like``, whose leaves are arrays or ``jax.ShapeDtypeStruct``.

    Every leaf's name, shape and dtype must agree. Leaves come back as what they are in ``like``: JAX arrays (on the
    default device), NumPy arrays, or Python numbers.
    """
    path = Path(path)
    leaves = _read(path).leaves
    wanted = _named_leaves(like)
    _check_names(path, wanted.keys(), leaves.keys())
    structure = jax.tree.structure(like)
    return jax.tree.unflatten(structure, [_fill(path, name, leaves[name], leaf) for name, leaf in wanted.items()])


def read_recipe(path: str | os.PathLike) -> dict:
    """The recipe stored in the checkpoint. The checksum of the whole file is verified."""
    return _read(Path(path)).recipe


def read_meta(path: str | os.PathLike) -> dict:
    """What was stored beside the tree, such as the step. The checksum of the whole file is verified."""
    return _read(Path(path)).meta


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Make ``data`` the content of ``path``, or leave the earlier file as it was. The folder is made if it is missing.

    The bytes go to a new file in the same folder and reach the disk before it is renamed; then the folder itself is
    synchronised, where the system can. What a killed writer left behind is removed by the next write of the same file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """The rename itself survives a power cut only once the folder is on the disk. Windows has no such call."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Writing: a tree becomes named arrays.


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves by readable path, such as ``optimizer/0/mu/torso/weight``, in the order of the tree."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/") or "tree": leaf for path, leaf in pairs}
    if len(named) < len(pairs):
        raise CheckpointError("two leaves have the same path; rename the dictionary keys that contain '/'")
    return named


def _to_stored(name: str, leaf: Any) -> tuple[str | None, Any]:
    """The dtype to note where the array cannot say it, and the array."""
    if _is_key(leaf):
        return KEY + str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
        raise CheckpointError(
            f"leaf {name!r} is a {type(leaf).__name__}, no array; save eqx.filter(tree, eqx.is_array)"
        )
    return None, leaf


def _native(name: str, leaf: Any) -> np.ndarray:
    """The leaf as safetensors wants it: contiguous, in this machine's byte order."""
    array = np.asarray(leaf)
    if name == "__metadata__" or _name(array.dtype) not in STORABLE:
        raise CheckpointError(f"leaf {name!r} of dtype {array.dtype} cannot be stored; convert or rename it")
    dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
    return np.asarray(array, dtype=dtype, order="C")


@cache
def _name(dtype: np.dtype) -> str:
    """NumPy spells a dtype anew each time, which is slow."""
    return dtype.name


def _to_json(what: str, value: dict) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the {what} is not JSON ({error}); use dicts, lists, strings and numbers") from error


def _digest(header: Mapping[str, str], tensors: Mapping[str, memoryview | bytearray]) -> str:
    """SHA-256 of the metadata and of every tensor's bytes under its name; the file's own order does not matter."""
    sha = hashlib.sha256()
    sha.update(json.dumps(sorted((key, value) for key, value in header.items() if key != "sha256")).encode())
    for name in sorted(tensors):
        view = memoryview(tensors[name])
        sha.update(json.dumps([name, view.nbytes]).encode())
        sha.update(view)
    return sha.hexdigest()


@cache
def _library_version() -> str:
    try:
        return metadata.version("policygrad")
    except metadata.PackageNotFoundError:  # run from the source tree
        return "unknown"


# Reading: every way in which a file can be wrong is one sentence.


class _Stored(NamedTuple):
    """A leaf at rest."""

    dtype: str
    shape: tuple[int, ...]
    array: np.ndarray
    """The values; of a random key its words, one axis more than ``shape``."""


class _Content(NamedTuple):
    """A checkpoint whose checksum was verified."""

    recipe: dict
    meta: dict
    leaves: dict[str, _Stored]


def _read(path: Path) -> _Content:
    data = _read_bytes(path)
    try:
        tensors = {name: tensor["data"] for name, tensor in safetensors.deserialize(data)}
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} {_what_is_wrong(data)} ({error})") from error
    header = json.loads(data[8 : 8 + _header_size(data)]).get("__metadata__") or {}
    _check_header(path, header)
    if header.get("sha256") != _digest(header, tensors):
        raise CheckpointError(f"{path} is damaged or was edited: its checksum differs; use another checkpoint")
    try:
        table = json.loads(header["leaves"])
        leaves = {name: _to_leaf(dtype, tuple(shape), tensors[name]) for name, dtype, shape in table}
        return _Content(json.loads(header["recipe"]), json.loads(header["meta"]), leaves)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no valid checkpoint: its metadata cannot be read ({error!r})") from error


def _to_leaf(dtype: str, shape: tuple[int, ...], data: bytearray) -> _Stored:
    if dtype.startswith(KEY):
        return _Stored(dtype, shape, np.frombuffer(data, np.uint32).reshape(*shape, -1))
    return _Stored(dtype, shape, np.ndarray(shape, jnp.dtype(dtype), data))


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the checkpoint file, such as {path / 'last.safetensors'}")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _header_size(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _what_is_wrong(data: bytes) -> str:
    """Why safetensors refused: its own messages do not tell a cut file from a foreign one."""
    if not data:
        return "is empty"
    size, begins = _header_size(data), data[8:9] in (b"", b"{")
    if not begins or (len(data) >= 8 and not 2 <= size <= 100_000_000):  # the format's own limit
        return "is not a safetensors file"
    if len(data) < 8 + size:
        return "is truncated"
    try:
        tensors = json.loads(data[8 : 8 + size])
        end = max(entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return "is not a safetensors file"
    return "is truncated" if len(data) < 8 + size + end else "is damaged"


def _check_header(path: Path, header: Mapping[str, str]) -> None:
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file of another program, not a policygrad checkpoint")
    version = header.get("format_version", "")
    if version.isdecimal() and int(version) > FORMAT_VERSION:
        writer = f"policygrad {header.get('policygrad', 'unknown')}, format {version}"
        raise CheckpointError(f"{path} was written by {writer}; this is format {FORMAT_VERSION}: upgrade policygrad")


def _check_names(path: Path, wanted: Collection[str], found: Collection[str]) -> None:
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    if missing:
        raise _misfit(path, f"it lacks {_some(missing)}")
    if unknown:
        raise _misfit(path, f"it has {_some(unknown)}, unknown here")


def _fill(path: Path, name: str, stored: _Stored, like: Any) -> Any:
    """The stored leaf as what ``like`` is, or a refusal."""
    leaf = _to_key(stored) if stored.dtype.startswith(KEY) else stored.array
    there, here = _spell(leaf), _spell(like)
    if there != here:
        raise _misfit(path, f"leaf {name!r} is {there} in the file and {here} here")
    if isinstance(like, bool | int | float | complex):
        return leaf.item()
    if isinstance(like, np.ndarray | np.generic):
        return leaf if isinstance(like, np.ndarray) else leaf[()]
    return leaf if isinstance(leaf, jax.Array) else _to_device(path, name, leaf, getattr(like, "weak_type", False))


def _to_key(stored: _Stored) -> jax.Array:
    return jax.random.wrap_key_data(jnp.array(stored.array), impl=stored.dtype.removeprefix(KEY))


def _to_device(path: Path, name: str, array: np.ndarray, weak: bool) -> jax.Array:
    """A JAX array that owns its memory; weakly typed where the original was, so that the program stays the same."""
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        wide = f"leaf {name!r} is {array.dtype}"
        raise CheckpointError(f"{path}: {wide}; call jax.config.update('jax_enable_x64', True) first")
    if weak and array.shape == ():
        scalar = jnp.asarray(array.item())
        if scalar.dtype == array.dtype and np.asarray(scalar).tobytes() == array.tobytes():
            return scalar
    return jnp.array(array)


def _misfit(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} does not fit: {why}; build the state from the checkpoint's own recipe")


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:3])) + ", ..." * (len(names) > 3)
    return f"leaf {shown}" if len(names) == 1 else f"{len(names)} leaves ({shown})"


def _spell(leaf: Any) -> str:
    """Such as ``float32[3,4]``; a random key spells its generator too."""
    dtype = getattr(leaf, "dtype", np.dtype(type(leaf)) if np.isscalar(leaf) else None)
    return f"{dtype.name if isinstance(dtype, np.dtype) else dtype}[{','.join(map(str, np.shape(leaf)))}]"


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
