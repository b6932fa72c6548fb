"""A policy's folder as a whole: contract, checksums, golden pairs, signature."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from kanbatsu.deploy import Contract, ParityError, PolicyError, export_policy, load
from kanbatsu.deploy.bundle import read_bundle
from kanbatsu.deploy.contract import Moments
from kanbatsu.deploy.golden import difference, draw
from kanbatsu.deploy.layers import Dense, Linear, Normalise, Squash
from kanbatsu.deploy.seal import KEY_VARIABLE, digest, sealed
from kanbatsu.deploy.task import contract_of_task
from kanbatsu.deploy.write import Export, Original, write_policy
from kanbatsu.files.disk import write_json

KNOWN = Contract(
    observation_names=("cos", "sin", "speed"),
    observation_units=("1", "1", "rad/s"),
    observation_low=(-1.0, -1.0, -8.0),
    observation_high=(1.0, 1.0, float("inf")),
    action_names=("torque",),
    action_units=("N m",),
    control_period=0.05,
    action_repeat=1,
    licence="MIT",
)
MOMENTS = Moments("replay", 100.0, np.array([0.5, 0.0, 1.0]), np.array([0.1, 1.0, 3.0]))


def layers():
    rng = np.random.default_rng(0)
    hidden, out = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 8), (8, 1)))
    return [
        Normalise(np.array([0, 0, 1], np.float32), np.array([1, 1, 2], np.float32)),
        Linear(Dense(hidden), np.zeros(8, np.float32), 3, 8, relu=True),
        Linear(Dense(out), np.zeros(1, np.float32), 8, 1, relu=False),
        Squash(np.array([-2], np.float32), np.array([2], np.float32)),
    ]


def by_hand(obs):
    begin, hidden, out, _ = layers()
    x = np.maximum((obs - begin.mean) / begin.scale @ hidden.weight.values, 0)
    return 2 * np.tanh(x @ out.weight.values)


def write(folder, act=by_hand, **how):
    write_policy(
        layers(), folder, Original(act, "by hand"), Export(**{"contract": KNOWN, **how}),
        moments=MOMENTS, seen=100.0,
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "policy")


def reseal(folder, change, key=None):
    """Change the contract as somebody would who makes its checksums right again."""
    contract = json.loads((folder / "contract.json").read_text())
    change(contract)
    contract["sha256"] = {n: digest((folder / n).read_bytes()) for n in contract["sha256"]}
    signature = contract.pop("signature")
    contract.pop("checksum")
    whole = sealed(contract, key)
    if key is None and signature is not None:
        whole = {k: v for k, v in whole.items() if k != "checksum"} | {"signature": signature}
        whole["checksum"] = digest(
            json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()
        )
    write_json(folder / "contract.json", whole)


def swap_columns(folder, array, axis):
    path = folder / "policy.safetensors"
    arrays = safetensors.numpy.load_file(path)
    order = [1, 0, *range(2, arrays[array].shape[axis])]
    arrays[array] = np.ascontiguousarray(arrays[array].take(order, axis))
    path.write_bytes(safetensors.numpy.save(arrays))


def test_the_contract_says_what_is_known_and_what_is_not(folder):
    contract = load(folder).contract
    assert contract["observation"] == {
        "size": 3, "shape": [3], "dtype": "float32", "parts": None, "channels_first": False,
        "names": ["cos", "sin", "speed"], "units": ["1", "1", "rad/s"],
        "low": [-1.0, -1.0, -8.0], "high": [1.0, 1.0, None],
    }  # fmt: skip
    assert (contract["action"]["low"], contract["action"]["units"]) == ([-2.0], ["N m"])
    assert (contract["control_period_seconds"], contract["action_repeat"]) == (0.05, 1)
    assert contract["normaliser"] == {
        "frozen": True, "observations_seen": 100.0, "mean": [0.0, 0.0, 1.0],
        "scale": [1.0, 1.0, 2.0],
    }  # fmt: skip
    assert contract["training_data"]["sd"] == [0.1, 1.0, 3.0]
    provenance = contract["provenance"]
    assert (provenance["licence"], provenance["verdict"], provenance["run_id"]) == (
        "MIT", None, None,
    )  # fmt: skip
    assert provenance["versions"]["numpy"] == np.__version__


def test_golden_pairs_lie_where_training_data_lay_and_hold_the_original_s_actions(folder):
    golden = load(folder).contract["golden"]
    observations = np.array(golden["observations"], np.float32)
    assert observations.shape == (16, 3)
    assert observations[:, :2].min() >= -1
    assert observations[:, :2].max() <= 1
    assert abs(observations[:, 0].mean() - 0.5) < 0.1
    np.testing.assert_allclose(golden["actions"], by_hand(observations), atol=1e-5)
    assert 0 <= golden["parity_error"] < 1e-5
    assert (golden["drawn_from"], golden["compared_with"]) == ("replay", "by hand")
    again, _ = draw(3, MOMENTS, KNOWN.observation_low, [1.0, 1.0, None], 64)
    np.testing.assert_array_equal(again[:16], observations)


def test_without_training_data_that_is_said(tmp_path):
    write_policy(layers(), tmp_path / "a", Original(by_hand, "by hand"), Export())
    contract = load(tmp_path / "a").contract
    assert "no training data" in contract["training_data"]["absent"]
    assert contract["golden"]["drawn_from"] == "standard Gaussian"


def test_an_export_that_does_not_act_as_the_original_is_refused_with_the_number(tmp_path):
    def off(obs):
        return by_hand(obs) + 0.02  # a hundredth of half the range

    with pytest.raises(ParityError, match=r"as by hand does: .* by 0.01 halves .*, and 0.0001"):
        write(tmp_path / "policy", off)
    with pytest.raises(ParityError, match="by nan"):
        write(tmp_path / "policy", lambda obs: np.nan * by_hand(obs))
    assert not (tmp_path / "policy").exists()
    write(tmp_path / "policy", off, tolerance=0.02)
    assert load(tmp_path / "policy").contract["golden"]["parity_error"] == pytest.approx(0.01, 0.01)


def test_differences_are_in_halves_of_the_range_or_in_the_action_s_size():
    low, high = np.array([-np.inf, 0.0]), np.array([np.inf, 10.0])
    wanted = np.array([[100.0, 1.0], [-50.0, 2.0]])
    assert difference(
        wanted + np.array([[1.0, 0.0], [0.0, 0.0]]), wanted, low, high
    ) == pytest.approx(0.01)
    assert difference(
        wanted + np.array([[0.0, 0.0], [0.0, 0.5]]), wanted, low, high
    ) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["contract.json", "policy.json", "policy.safetensors"])
def test_one_flipped_bit_anywhere_is_refused(name, folder):
    path = folder / name
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.choice(8 * len(content), min(8 * len(content), 400), replace=False)
    for place in places:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(damaged))
        with pytest.raises(PolicyError, match=f"{name}|version None"):
            read_bundle(folder, None)
    path.write_bytes(content)
    load(folder)


def test_a_number_that_is_written_otherwise_is_refused(folder):
    path = folder / "contract.json"
    text = path.read_text()
    assert '"tolerance": 0.0001' in text
    path.write_text(text.replace('"tolerance": 0.0001', '"tolerance": 1E-04'))
    with pytest.raises(PolicyError, match="is not as it was written"):
        load(folder)


def test_two_swapped_columns_are_refused_even_with_right_checksums(folder):
    swap_columns(folder, "1/weight/values", 0)
    reseal(folder, lambda contract: None)
    with pytest.raises(PolicyError, match="golden pairs are not met: actions differ by"):
        load(folder)


def test_a_normaliser_that_is_not_the_contract_s_is_refused(folder):
    arrays = safetensors.numpy.load_file(folder / "policy.safetensors")
    arrays["0/mean"][:] = [1, 0, 0]
    (folder / "policy.safetensors").write_bytes(safetensors.numpy.save(arrays))
    reseal(folder, lambda contract: None)
    with pytest.raises(PolicyError, match="mean of the contract's normaliser is not that of the"):
        load(folder)


def test_another_normaliser_is_refused_even_where_the_contract_was_changed_with_it(folder):
    path = folder / "policy.safetensors"
    arrays = safetensors.numpy.load_file(path)
    arrays["0/mean"][:] = [0, 0, -1]
    path.write_bytes(safetensors.numpy.save(arrays))
    reseal(folder, lambda c: c["normaliser"].update(mean=[0.0, 0.0, -1.0]))
    with pytest.raises(PolicyError, match=r"does not act as it was exported: the golden pairs"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["observation"].update(size=4), "its observation has another size"),
        (lambda c: c["golden"].update(actions=[[0.0]]), "another number of observations"),
        (
            lambda c: c["golden"].update(observations=[]),
            "observations of the golden pairs is empty",
        ),
        (lambda c: c["golden"]["observations"].__setitem__(3, [0.0, "a", 0.0]), "3 finite numbers"),
        (lambda c: c.update(golden=7), "the golden pairs is no table"),
        (lambda c: c["golden"].update(tolerance=-1.0), "tolerance of the golden pairs is -1.0"),
        (lambda c: c.update(normaliser=None), "normaliser of the contract is no table"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(change, message, folder):
    reseal(folder, change)
    with pytest.raises(PolicyError, match=message):
        load(folder)


def test_a_missing_or_foreign_file_is_named(folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(PolicyError, match=r"notes.txt is no file of this policy"):
        load(folder)
    with pytest.raises(FileExistsError, match=r"holds other files \(notes.txt\)"):
        write(folder)
    (folder / "notes.txt").unlink()
    (folder / "policy.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"policy.safetensors is missing"):
        load(folder)
    (folder / "contract.json").unlink()
    with pytest.raises(PolicyError, match=r"contract.json is missing: it was lost, or"):
        load(folder)


def test_a_folder_of_a_policy_takes_another_one(folder):
    write(folder, tolerance=0.5)
    assert load(folder).contract["golden"]["tolerance"] == 0.5


@pytest.fixture
def keys(tmp_path):
    for index, name in enumerate(("ours", "theirs")):
        (tmp_path / name).write_bytes(bytes([index] * 32))
    return tmp_path / "ours", tmp_path / "theirs"


def test_a_signature_tells_malice_from_damage(tmp_path, keys, monkeypatch):
    ours, theirs = keys
    folder = write(tmp_path / "policy", key=ours)
    assert load(folder, key=ours).action_dim == 1
    with pytest.raises(PolicyError, match="is signed, and no key was given"):
        load(folder)
    with pytest.raises(PolicyError, match="its signature is not that of this key"):
        load(folder, key=theirs)
    monkeypatch.setenv(KEY_VARIABLE, str(ours))
    load(folder)
    monkeypatch.delenv(KEY_VARIABLE)
    shutil.copytree(folder, tmp_path / "forged")
    reseal(tmp_path / "forged", lambda c: c["provenance"].update(licence="none"))
    with pytest.raises(PolicyError, match="somebody without the key changed it"):
        load(tmp_path / "forged", key=ours)
    damaged = (folder / "contract.json").read_text().replace("MIT", "MIU")
    (folder / "contract.json").write_text(damaged)
    with pytest.raises(PolicyError, match="was damaged or edited"):
        load(folder, key=ours)


def test_an_unsigned_policy_is_refused_where_a_key_is_given(folder, keys):
    with pytest.raises(PolicyError, match="is not signed, and a key was given"):
        load(folder, key=keys[0])


def test_keys_that_are_none_are_refused(tmp_path):
    (tmp_path / "short").write_bytes(b"secret")
    with pytest.raises(ValueError, match="holds 6 bytes, fewer than 16: make one with head -c 32"):
        write(tmp_path / "policy", key=tmp_path / "short")
    with pytest.raises(ValueError, match="nowhere does not exist"):
        write(tmp_path / "policy", key=tmp_path / "nowhere")
    assert not (tmp_path / "policy").exists()


def test_names_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="action_names has length 2, and an action has 1 entry"):
        write(tmp_path / "policy", contract=Contract(action_names=("a", "b")))
    with pytest.raises(ValueError, match="observation_names holds a more than once"):
        write(tmp_path / "policy", contract=Contract(observation_names=("a", "a", "b")))


def test_an_actor_in_memory_brings_its_normaliser_s_moments(make, tmp_path):
    _, state = make(stored="dense")
    export_policy(state.actor, state.normaliser, tmp_path, low=-1.0, high=1.0)
    contract = load(tmp_path).contract
    data = contract["training_data"]
    assert (data["source"], round(data["count"])) == ("normaliser", 50)
    np.testing.assert_allclose(data["mean"], state.normaliser.mean, rtol=1e-6)
    np.testing.assert_allclose(np.square(data["sd"]), state.normaliser.variance, rtol=1e-5)


@pytest.mark.parametrize("time", [False, True])
def test_a_task_of_the_control_suite_names_its_observations_and_its_clock(time):
    known = contract_of_task({"task": "dmc/cartpole-balance", "action_repeat": 2, "time": time})
    assert known.observation_names == (
        "position/0", "position/1", "position/2", "velocity/0", "velocity/1",
    ) + ("time",) * time  # fmt: skip
    assert (known.control_period, known.action_repeat) == (0.02, 2)


def test_a_task_that_cannot_be_had_here_says_nothing():
    assert contract_of_task({"task": "gym/Nowhere-v9", "action_repeat": 3}) == Contract(
        action_repeat=3
    )
