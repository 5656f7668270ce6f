"""Published files with a few bytes changed at random: refused, or read as bounded tensors and nothing else."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mutations
from dode import checkpoints
from dode.checkpoints import CheckpointError
from mutations import mutated
from published_files import edm_pickle, weights


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    torch.save(weights(), folder / "zip")
    torch.save([1, weights()], folder / "legacy", _use_new_zipfile_serialization=False)
    edm_pickle(folder / "edm", folder / "sentinel")
    return folder


OPTIONS = {"zip": ("torch", None), "legacy": ("torch", 1), "edm": ("edm-pickle", "ema")}


@pytest.mark.parametrize("name", list(OPTIONS))
@settings(
    max_examples=mutations.examples(100),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_mutated_files_are_refused_or_hold_tensors_within_the_file(valid, name, data):
    """A flipped weight or name cannot be seen without a checksum; but only tensors come out, of bounded size."""
    original = (valid / name).read_bytes()
    # Most bytes are weights or source: half of the mutations go where the pickle's own opcodes are.
    pickled = [place for place in range(len(original)) if original[place] in b"RbQ\x93\x85\x86\x87tKMhqs}].(c\x8c\x94"]
    content = mutated(original, data, st.sampled_from(pickled))
    path = valid / "mutated"
    path.write_bytes(content)
    format, key = OPTIONS[name]
    try:
        found, _ = checkpoints.read(path, format=format, key=key)
    except CheckpointError:
        pass
    else:
        assert all(type(tensor) is torch.Tensor for tensor in found.values())
        assert sum(tensor.nbytes for tensor in found.values()) <= 4 * len(content)
        for tensor in found.values():
            tensor.clone()
    assert not (valid / "sentinel").exists()
