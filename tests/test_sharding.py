"""The mesh, the closed set of axis names, and what a parameter declares."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxseq.sharding import (
    MESH_AXES,
    RULES,
    Declared,
    batch_sharding,
    constrain,
    make_mesh,
    param,
    replicated,
    shardings,
    spec,
)

ones = nn.initializers.ones


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((2, 2, 2, 1), (2, 2, 2, 1)), ((-1, 2, 1, 1), (4, 2, 1, 1)), ((1, 1, 1, -1), (1, 1, 1, 8))],
)
def test_one_size_may_be_the_rest_of_the_devices(shape, sizes):
    mesh = make_mesh(shape)
    assert tuple(mesh.shape[name] for name in MESH_AXES) == sizes
    assert mesh.axis_types == (AxisType.Auto,) * 4


def test_a_mesh_of_some_devices_is_of_those():
    devices = jax.devices()[4:6]
    assert list(make_mesh((1, 2, 1, 1), devices).devices.flat) == devices


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2, 1, 1), "mesh (2, 2, 1, 1) needs a multiple of 4 devices, there are 8"),
        ((-1, 3, 1, 1), "mesh (-1, 3, 1, 1) needs a multiple of 3 devices, there are 8"),
        ((-1, -1, 1, 1), "mesh must be four sizes"),
        ((8, 1, 1), "mesh must be four sizes"),
        ((8, 1, 1, 0), "mesh must be four sizes"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_mesh(shape)


def test_every_rule_names_axes_of_the_mesh():
    for axes in RULES.values():
        assert set((axes,) if isinstance(axes, str) else axes or ()) <= set(MESH_AXES)


def test_a_spec_follows_the_rules():
    assert spec("batch", None, "mlp") == PartitionSpec(("data", "fsdp"), None, "tensor")


@pytest.mark.parametrize(
    "use",
    [
        lambda: spec("batch", "widht"),
        lambda: constrain(jnp.ones((2, 2)), "batch", "widht"),
        lambda: param(ones, "widht"),
    ],
    ids=["spec", "constrain", "param"],
)
def test_an_unknown_axis_is_refused(use):
    with pytest.raises(ValueError, match=r"logical axis must be one of batch, .*, got 'widht'"):
        use()


def test_one_name_per_axis_is_required():
    with pytest.raises(ValueError, match=r"constrain needs one axis name per axis of an array of shape \(2, 2\)"):
        constrain(jnp.ones((2, 2)), "batch")
    with pytest.raises(ValueError, match=r"param needs one axis name per axis of an array of shape \(2, 2\)"):
        param(ones, "embed")(jax.random.key(0), (2, 2))


def test_without_a_mesh_constrain_is_the_identity():
    x = jnp.ones((3, 5))
    assert constrain(x, "batch", "mlp") is x


def test_under_a_mesh_constrain_lays_out():
    with jax.set_mesh(make_mesh((2, 2, 2, 1))):
        x = jax.jit(lambda x: constrain(x, "batch", "mlp"))(jnp.ones((4, 6)))
    assert x.sharding.shard_shape(x.shape) == (1, 3)


def test_a_parameter_is_laid_out_as_it_declares():
    declared = {"w": param(ones, "embed", "mlp")(jax.random.key(0), (4, 6))}
    w = jax.device_put(declared["w"].value, shardings(make_mesh((2, 2, 2, 1)), declared)["w"])
    assert w.sharding.shard_shape(w.shape) == (2, 3)


def test_an_axis_that_the_mesh_does_not_divide_is_named():
    declared = {"block": {"w": param(ones, "embed", "mlp")(jax.random.key(0), (4, 5))}}
    message = "parameter block.w: axis 'mlp' of size 5 must divide by 2 (('tensor',))"
    with pytest.raises(ValueError, match=re.escape(message)):
        shardings(make_mesh((2, 2, 2, 1)), declared)


def test_weight_decay_is_for_matrices_unless_said_otherwise():
    key = jax.random.key(0)
    assert param(ones, "embed", "mlp")(key, (2, 2)).decay
    assert not param(ones, "embed")(key, (2,)).decay
    assert not param(ones, "embed", "mlp", decay=False)(key, (2, 2)).decay
    assert param(ones, "embed", clip=0.5)(key, (2,)).clip == 0.5


class Layer(nn.Module):
    """One layer of a stack."""

    @nn.compact
    def __call__(self, x, _):
        return x * self.param("w", param(ones, "embed", decay=True, clip=0.5), (3,)), None


def test_a_scan_over_layers_adds_the_axis_layers():
    stack = nn.scan(
        Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=5, metadata_params={"axis": "layers"}
    )
    variables = stack().init(jax.random.key(0), jnp.ones(3), None)
    w = variables["params"]["w"]
    assert isinstance(w, Declared)
    assert w.axes == ("layers", "embed")
    assert w.value.shape == (5, 3)
    assert (w.decay, w.clip) == (True, 0.5)


def test_a_batch_is_split_by_rows_and_a_scalar_is_everywhere():
    mesh = make_mesh((2, 2, 2, 1))
    assert batch_sharding(mesh).shard_shape((8, 6)) == (2, 6)
    assert replicated(mesh).shard_shape((8, 6)) == (8, 6)
