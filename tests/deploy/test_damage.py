"""What is not a policy: damaged, foreign and forged files are refused, each with one error."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

from kanbatsu.deploy import PolicyError, export_policy, load, policy
from kanbatsu.deploy.arrays import parse
from kanbatsu.deploy.seal import digest, sealed
from kanbatsu.files.disk import write_json
from kanbatsu.kernels.shared import shared_library


def rewrite(folder, change_layers=None, change_arrays=None, **fields):
    """Change a policy and make its checksums right again."""
    description = json.loads((folder / "policy.json").read_text())
    arrays = safetensors.numpy.load_file(folder / "policy.safetensors")
    for change, what in ((change_layers, description["layers"]), (change_arrays, arrays)):
        if change is not None:
            change(what)
    (folder / "policy.safetensors").write_bytes(safetensors.numpy.save(arrays))
    (folder / "policy.json").write_text(json.dumps(description))
    reseal(folder, **fields)


def reseal(folder, **fields):
    """Change the contract, and make its checksums right again, as whoever forges it would."""
    contract = json.loads((folder / "contract.json").read_text()) | fields
    contract["sha256"] = {name: digest((folder / name).read_bytes()) for name in contract["sha256"]}
    for name in ("checksum", "signature"):
        contract.pop(name)
    write_json(folder / "contract.json", sealed(contract))


def forge(folder, header, data=b""):
    """Give the arrays another header and other bytes, with a checksum that is right."""
    content = len(header).to_bytes(8, "little") + header + data
    (folder / "policy.safetensors").write_bytes(content)
    reseal(folder)


def repeat(sources):
    """Name one input twice in a list: the second of the last two becomes the first."""
    sources[-1] = sources[-2]


def set_entry(array, position, value):
    return lambda arrays: arrays[array].__setitem__(position, value)


def set_layer(index, **fields):
    return lambda layers: layers[index].update(fields)


def flip(name, position):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[position] ^= 1
        (folder / name).write_bytes(content)

    return damage


DAMAGE = {
    "a flipped byte": (flip("policy.safetensors", -5), "does not match its checksum"),
    "a flipped byte in the header": (flip("policy.safetensors", 30), "does not match its checksum"),
    "a changed description": (
        lambda folder: (folder / "policy.json").write_text(
            (folder / "policy.json").read_text().replace("1e-06", "2e-06")
        ),
        "policy.json does not match its checksum: it was damaged or edited",
    ),
    "cut off": (
        lambda folder: os.truncate(folder / "policy.safetensors", 1000),
        "does not match its checksum",
    ),
    "half a description": (
        lambda folder: os.truncate(folder / "contract.json", 500),
        "contract.json is not valid JSON",
    ),
    "another format": (
        lambda folder: rewrite(folder, format="torch"),
        "is not of the format kanbatsu-policy",
    ),
    "a later version": (
        lambda folder: rewrite(folder, version=3),
        "has version 3 of the format, and this kanbatsu reads version 2",
    ),
    "an input that does not exist": (
        lambda folder: rewrite(folder, None, set_entry("1/weight/sources", -1, 17)),
        "names an input that does not exist",
    ),
    "lists that run backwards": (
        lambda folder: rewrite(folder, None, set_entry("1/weight/starts", 3, 9999)),
        "layer 1 names an input that does not exist|its lists overlap",
    ),
    "a missing array": (
        lambda folder: rewrite(folder, None, lambda arrays: arrays.pop("4/bias")),
        "the array 4/bias of layer 4 is missing",
    ),
    "another shape": (
        lambda folder: rewrite(
            folder, None, lambda arrays: arrays.update({"4/bias": np.zeros(9, np.float32)})
        ),
        r"the array 4/bias is float32 \(9,\), not float32 \(160,\)",
    ),
    "another type": (
        lambda folder: rewrite(
            folder, None, lambda arrays: arrays.update({"4/bias": np.zeros(160)})
        ),
        "4/bias is of type F64",
    ),
    "a number that is not finite": (
        lambda folder: rewrite(folder, None, set_entry("4/bias", 0, np.nan)),
        "bias of layer 4 holds numbers that are not finite",
    ),
    "an unknown layer": (
        lambda folder: rewrite(folder, set_layer(1, kind="attention")),
        "kind of layer 1 is 'attention'; this kanbatsu knows normalise",
    ),
    "layers that do not fit": (
        lambda folder: rewrite(folder, lambda layers: layers.pop(4)),
        "layer 4 takes 160 features and is given 40",
    ),
    "a branch that never began": (
        lambda folder: rewrite(folder, lambda layers: (layers.pop(2), layers.pop(6))),
        "layer 5 adds None features to 40",
    ),
    "no squash": (
        lambda folder: rewrite(folder, lambda layers: layers.pop(-1)),
        "begins with one normalise and ends with one squash",
    ),
    "a size that is none": (
        lambda folder: rewrite(folder, set_layer(1, outputs=0)),
        "outputs of layer 1 is 0",
    ),
    "bounds the wrong way round": (
        lambda folder: rewrite(folder, set_layer(-1, low=[1.0, 1.0, 1.0])),
        "a low bound that is not below the high one",
    ),
    "an input twice": (
        lambda folder: rewrite(folder, None, lambda arrays: repeat(arrays["1/weight/sources"])),
        "layer 1 is wrong: it names an input twice",
    ),
    "a size beyond every integer": (
        lambda folder: rewrite(folder, set_layer(1, outputs=10**29)),
        "outputs of layer 1 is larger than 2147483647",
    ),
    "an epsilon beyond float32": (
        lambda folder: rewrite(folder, set_layer(3, epsilon=1e300)),
        "epsilon of layer 3 is 1e[+]300; it must be above 0, and a number of float32",
    ),
    "a bound beyond float32": (
        lambda folder: rewrite(folder, set_layer(-1, high=[1e300] * 3)),
        "high of layer [0-9]+ is not a list of 3 finite numbers",
    ),
    "bounds too far apart": (
        lambda folder: rewrite(folder, set_layer(-1, low=[-3e38] * 3, high=[3e38] * 3)),
        "bounds too far apart for float32",
    ),
    "nested without end": (
        lambda folder: (folder / "contract.json").write_text("[" * 100_000),
        "contract.json is not valid JSON",
    ),
    "a header nested without end": (
        lambda folder: forge(folder, b"[" * 100_000),
        "does not describe a policy",
    ),
    "a type that is none": (
        lambda folder: forge(folder, b'{"a": {"dtype": [], "shape": [], "data_offsets": [0, 0]}}'),
        "a is of type",
    ),
    "a shape beyond every integer": (
        lambda folder: forge(
            folder,
            b'{"a": {"dtype": "F32", "shape": [0, 1%s], "data_offsets": [0, 0]}}' % (b"0" * 29),
        ),
        "a has a size that is none",
    ),
    "an environment that was edited": (
        lambda folder: reseal(folder, environment=[]),
        "the environment of the contract is no table",
    ),
    "a field of another type": (
        lambda folder: rewrite(folder, set_layer(1, relu="yes")),
        "relu of layer 1 is missing, or of a wrong type",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_refused(damage, path, exported, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    break_it, message = DAMAGE[damage]
    break_it(folder)
    with pytest.raises(PolicyError, match=message) as refused:
        load(folder)
    assert str(folder) in str(refused.value)
    assert "export it again" in str(refused.value)


def test_grouped_weights_that_name_missing_inputs_are_refused(make, path, tmp_path):
    _, state = make(stored="grouped")
    export_policy(state.actor, state.normaliser, tmp_path)
    rewrite(tmp_path, None, set_entry("1/weight/sources", (0, 0), -1))
    with pytest.raises(PolicyError, match="names an input that does not exist"):
        load(tmp_path)


def test_a_group_size_without_a_kernel_is_refused(make, tmp_path):
    _, state = make(stored="grouped")
    export_policy(state.actor, state.normaliser, tmp_path)
    pad = ((0, 0), (0, 0), (0, 4))
    rewrite(
        tmp_path,
        None,
        lambda arrays: arrays.update({"1/weight/values": np.pad(arrays["1/weight/values"], pad)}),
    )
    with pytest.raises(PolicyError, match="groups that do not fit 40 outputs"):
        load(tmp_path)


def test_an_empty_folder_says_how_to_export(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"contract.json is missing; export it again with"):
        load(tmp_path)


def test_safetensors_are_read_as_the_library_reads_them():
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([], np.int32),
        "c": np.array([65535], np.uint16),
    }
    content = safetensors.numpy.save(arrays, metadata={"by": "test"})
    read = parse(content)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (b"\xff" * 20, "cut off"),
        (b"\x02" + bytes(7) + b"[]", "no table"),
        (b"\x02" + bytes(7) + b"{", "cut off"),
        (safetensors.numpy.save({"a": np.zeros(2, np.float32)})[:-1], "does not fit its place"),
        (safetensors.numpy.save({"a": np.zeros(2)}), "of type F64"),
        (
            safetensors.numpy.save({"a": np.zeros(2, np.float32)}).replace(b"[2]", b"[3]"),
            "does not fit",
        ),
        (
            safetensors.numpy.save({"a": np.zeros(2, np.float32)}).replace(b"[0,8]", b"[4,8]"),
            "does not fit",
        ),
        (
            safetensors.numpy.save({"a": np.zeros(2, np.float32)}).replace(b"shape", b"shade"),
            "incomplete",
        ),
    ],
)
def test_foreign_bytes_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse(content)


@pytest.mark.parametrize("name", ["contract.json", "policy.json", "policy.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(name, kind, exported, tmp_path):
    folder = tmp_path / "policy"
    shutil.copytree(exported, folder)
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()
    with pytest.raises(PolicyError, match=f"{name} is not a regular file; export it again"):
        load(folder)


VALUES = [
    None,
    True,
    0,
    -1,
    1,
    10**29,
    0.0,
    -1.0,
    1e300,
    float("nan"),
    "",
    "1/weight",
    [],
    {},
    [[]],
]


def mutated(rng, value):
    """Return JSON with one entry somewhere in it replaced, removed or doubled."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(rng.integers(len(keys)))]
        copy = value.copy()
        chance = rng.random()
        if chance < 0.1:
            del copy[key]
        elif chance < 0.2 and isinstance(copy, list):
            copy.insert(key, copy[key])
        else:
            copy[key] = mutated(rng, value[key])
        return copy
    return VALUES[int(rng.integers(len(VALUES)))]


def both_ways(folder, monkeypatch):
    """Load with compiled kernels and with numpy: both refuse, or both act alike."""
    actions = []
    for library in (shared_library(), None):
        monkeypatch.setattr(policy, "shared_library", lambda library=library: library)
        try:
            actions.append(load(folder)(np.linspace(-2, 2, 34).reshape(2, 17)))
        except PolicyError:
            actions.append(None)
    one, other = actions
    assert (one is None) == (other is None)
    if one is not None:
        np.testing.assert_allclose(one, other, atol=1e-4)
    return one is not None


@pytest.mark.parametrize("seed", range(4))
def test_forged_descriptions_are_refused_or_mean_the_same_everywhere(
    seed, exported, tmp_path, monkeypatch
):
    rng = np.random.default_rng(seed)
    shutil.copytree(exported, tmp_path / "policy")
    file = tmp_path / "policy" / "policy.json"
    description = json.loads(file.read_text())
    refused = 0
    for _ in range(60):
        file.write_text(json.dumps(mutated(rng, description)))
        reseal(file.parent)
        refused += not both_ways(file.parent, monkeypatch)
    assert refused > 30


@pytest.mark.parametrize("seed", range(4))
def test_forged_headers_and_numbers_are_refused_or_mean_the_same_everywhere(
    seed, exported, tmp_path, monkeypatch
):
    rng = np.random.default_rng(seed)
    shutil.copytree(exported, tmp_path / "policy")
    folder = tmp_path / "policy"
    content = (folder / "policy.safetensors").read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    # Sources and starts lie among the arrays: integers whose every value has a meaning.
    lists = [header[f"{n}/weight/{kind}"] for n in (1, 4) for kind in ("sources", "starts")]
    for turn in range(60):
        forged = bytearray(content[begin:])
        written = header
        if turn % 2:
            first, last = lists[int(rng.integers(len(lists)))]["data_offsets"]
            forged[int(rng.integers(first, last))] = int(rng.integers(256))
        else:
            written = mutated(rng, header)
        forge(folder, json.dumps(written).encode(), bytes(forged))
        both_ways(folder, monkeypatch)
