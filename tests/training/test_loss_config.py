"""What the loss wants and the model does not say is refused by name, and so is what nothing would train."""

import numpy as np
import pytest

import eqpot
from eqpot.core.config import build
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import Dataset, Store, prepare_store
from eqpot.training import FitConfig
from eqpot.training.batches import group_weights
from eqpot.training.loss_config import StageTwoConfig


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"loss": {"noise": "atoms"}}, r"loss\.noise: 'atoms' trains the σ .* set model\.noise: true"),
        ({"model": {"noise": True}}, r"model\.noise: .* found loss\.noise: none, which would leave it as it is"),
        ({"model": {"noise": True}, "loss": {"noise": "learned"}}, r"model\.noise: .* found loss\.noise: learned"),
        ({"loss": {"charges": 3}}, r"loss\.charges: found a weight, but the model predicts no charges; set model\.charges: true"),
        ({"stage_two": {"dipole": 3}}, r"loss\.dipole: found a weight, but the model predicts no charges"),
        ({"loss": {"net_force": 1}}, r"loss\.net_force: found 1, but forces of this model are derivatives of its energy"),
        ({"loss": {"net_torque": 1}}, r"loss\.net_torque: .* set model\.direct_forces: true"),
        ({"loss": {"noise": "learned", "final": {"energy": 3}}}, r"noise 'learned' takes weights as switches"),
        (
            {"loss": {"stress": 500}, "model": {"direct_forces": True}},
            r"loss\.stress: found a weight, but a model with direct forces has no stress",
        ),
        ({"loss": {"final": {"energy": -1}}}, r"loss\.final\.energy: found -1"),
        ({"loss": {"final": {"enregy": 1}}}, r"loss\.final\.enregy"),
        ({"model": {"kind": "linear"}, "optimizer": {"name": "ridge"}, "loss": {"final": {"energy": 1}}}, r"closed form .* loss\.final"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(config, text):
    with pytest.raises(ConfigError, match=text):
        build(FitConfig, config)


@pytest.mark.parametrize(
    "config",
    [
        {"loss": {"noise": "atoms"}, "model": {"noise": True}},
        {"loss": {"net_force": 1}, "model": {"direct_forces": True}},
        {"loss": {"charges": 0}},
        {"loss": {"stress": 0}, "model": {"direct_forces": True}},
        {"loss": {"energy": 0, "forces": 0, "stress": 0, "final": {"energy": 1}}},
        FitConfig(stage_two=StageTwoConfig()).model_dump(),  # as a run keeps it
    ],
)
def test_what_fits_together_is_accepted(config):
    build(FitConfig, config)


@pytest.mark.parametrize("section", ["loss", "stage_two"])
@pytest.mark.parametrize("name", ["charges", "dipole", "stress"])
def test_a_label_that_was_asked_for_must_be_there(frames, settings, section, name):
    model = settings["model"] | {"charges": True}
    with pytest.raises(DataError, match=rf"loss\.{name} counts but no training frame has {name}; name its key in data\.keys"):
        eqpot.fit({**settings, "model": model, section: {name: 1}}, frames)


def test_groups_weigh_their_frames_in_memory_and_in_a_store(frames, tmp_path):
    named = Dataset(tuple(f.replace(group=("liquid", "dimer", "gas")[k % 3]) for k, f in enumerate(frames)))
    expected = np.array([(2.0, 0.1, 1.0)[k % 3] for k in range(len(frames))])
    store = prepare_store(named, tmp_path / "store", allow=("force-unit",))
    for data in (named, store, Store.open(tmp_path / "store")[5:20]):
        np.testing.assert_array_equal(group_weights(data, {"liquid": 2.0, "dimer": 0.1}), expected[5:20] if len(data) == 15 else expected)
    with pytest.raises(DataError, match=r"loss\.groups: found 'liqid', expected the group of some training frame.* did you mean 'liquid'"):
        group_weights(named, {"liqid": 2.0})


def test_a_fit_multiplies_the_weights_of_groups_into_those_of_the_members(frames, settings):
    named, seen = Dataset(tuple(f.replace(group="dimer") if k % 2 else f for k, f in enumerate(frames))), []
    config = {**settings, "ensemble": {"members": 2, "bootstrap": False}, "training": {"epochs": 1, "batch_size": 8}}
    look = lambda problem, batches: seen.append((batches.weights, [s.frame.group for s in problem.train]))  # noqa: E731
    eqpot.fit({**config, "loss": {"groups": {"dimer": 0.25}}}, named, on_start=look)
    weights, groups = seen[0]
    np.testing.assert_array_equal(weights, np.tile([0.25 if g == "dimer" else 1.0 for g in groups], (2, 1)))


@pytest.mark.slow
def test_the_rate_of_a_learned_sigma_has_a_name(frames, settings):
    """The σ of forces is frozen at the scale of the data, where all start; that of energies moves."""
    config = {**settings, "loss": {"noise": "learned"}, "training": {"epochs": 2, "batch_size": 8}}
    potential = eqpot.fit({**config, "optimizer": {"rates": {"noise/forces": 0}}}, frames)
    noise, scale = potential.metadata["noise"], potential.spec.normalization.scale
    assert noise["forces"] == pytest.approx(scale, rel=1e-5) and abs(noise["energy"] / scale - 1) > 1e-3
    with pytest.raises(ConfigError, match=r"no parameter matches 'noise/\*'"):
        eqpot.fit({**settings, "optimizer": {"rates": {"noise/*": 0}}}, frames)


def test_a_second_stage_leaves_out_what_the_first_does_unless_it_is_named():
    """Before, its own defaults brought forces and charges back that were left out because their labels are bad."""
    off = {"energy": 10, "forces": 0, "charges": 0}
    weights = [build(FitConfig, {"loss": off, "stage_two": two}) for two in ({"energy": 50}, {"energy": 50, "forces": 3})]
    assert [c.stage_two.weights(c.loss)["forces"] for c in weights] == [0, 3]
    assert [c.stage_two.weights(c.loss)["charges"] for c in weights] == [0, 0]
    alone = build(FitConfig, {"loss": {"energy": 0}, "stage_two": {}})
    assert alone.stage_two.weights(alone.loss)["energy"] == 1000, "energies are what it is for"
    again = build(FitConfig, weights[0].model_dump())  # as a run keeps it
    assert again.stage_two.weights(again.loss) == weights[0].stage_two.weights(weights[0].loss)
