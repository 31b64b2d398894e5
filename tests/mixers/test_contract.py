"""What every mixer promises, proved for each by its name in the registry.

Parameters are drawn three times as large as usual, so that a state that carries nothing cannot pass.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.mixers import MIXERS
from jaxseq.sharding import batch_sharding, is_declared, make_mesh, replicated, shardings
from tests.mixers.cases import BAD, OPTIONS, REACH, WIDTH

B, T, D = 4, 24, WIDTH
PARTS = (7, 16, 1)  # lengths of a split, and of the documents of a packed row

CASES = [(name, i) for name in MIXERS for i in range(len(OPTIONS.get(name, [{}])))]


class Subject:
    """A mixer with parameters, inputs x, and (y, state) of the whole of x, all float32."""

    def __init__(self, name, i):
        self.mixer = MIXERS[name](width=D, **OPTIONS.get(name, [{}])[i])
        self.reach = REACH.get(name, T)
        self.declared = jax.jit(self.mixer.init)(jax.random.key(0), jnp.zeros((1, 2, D)))["params"]
        self.params = {"params": jax.tree.map(lambda x: 3 * x, meta.unbox(self.declared))}
        self.x = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)), np.float32)
        self._apply = jax.jit(self.mixer.apply)
        self._slopes = jax.jit(jax.grad(self._loss, argnums=(0, 1, 2), has_aux=True))
        self.full = self(self.x)

    def __call__(self, x, state=None, reset=None, mask=None):
        """(y, state), with nothing left out, so that a length is compiled once."""
        state = self.mixer.init_state(x.shape[0]) if state is None else state
        reset = jnp.zeros(x.shape[:2], bool) if reset is None else reset
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        return self._apply(self.params, x, state=state, reset=reset, mask=mask)

    def gradients(self, x, params):
        """y, and the gradients of a loss of it and the state with respect to parameters, x and the state before."""
        moved = jax.tree.map(lambda s: jnp.zeros_like(s) if s.dtype.kind in "fc" else None, self.before)
        slopes, y = self._slopes(params, x, moved)
        return y, slopes

    @functools.cached_property
    def before(self):
        """A state that is not empty."""
        return self(self.x[:, :7])[1]

    def _loss(self, params, x, moved):
        weight = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), x.dtype)
        reset = jnp.zeros(x.shape[:2], bool).at[1, 5].set(True)
        state = jax.tree.map(lambda s: s.astype(jnp.result_type(s, x)) if s.dtype.kind in "fc" else s, self.before)
        state = jax.tree.map(lambda s, d: s if d is None else s + d, state, moved, is_leaf=lambda s: s is None)
        y, state = self.mixer.apply(params, x, state=state, reset=reset)
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(self.full[1]), strict=True)
        floats = [s / max(1.0, float(np.max(np.abs(full)))) for s, full in pairs if s.dtype.kind in "fc"]
        return jnp.sum(weight * y) + sum(jnp.sum(jnp.sin(s.real)) for s in floats), y

    def parts(self):
        """x in parts."""
        return jnp.split(self.x, np.cumsum(PARTS)[:-1], axis=1)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def subject(request):
    return Subject(*request.param)


def take(tree, rows):
    return jax.tree.map(lambda x: x[rows], tree)


def assert_equal(value, expected):
    jax.tree.map(np.testing.assert_array_equal, value, expected)


def test_single_steps_are_the_whole(subject, close):
    state, ys = None, []
    for t in range(T):
        y, state = subject(subject.x[:, t : t + 1], state)
        ys.append(y)
    close((jnp.concatenate(ys, axis=1), state), subject.full)


@pytest.mark.parametrize(
    "order", [(7, 16, 1), *(pytest.param(x, marks=pytest.mark.slow) for x in ((1, 7, 16), (16, 1, 7)))], ids=str
)
def test_parts_with_the_state_carried_are_the_whole(subject, order, close):
    state, ys = None, []
    for part in jnp.split(subject.x, np.cumsum(order)[:-1], axis=1):
        y, state = subject(part, state)
        ys.append(y)
    close((jnp.concatenate(ys, axis=1), state), subject.full)


def test_nothing_given_is_an_empty_state_without_resets_or_padding(subject, close):
    close(jax.jit(subject.mixer.apply)(subject.params, subject.x), subject.full)


def test_packed_documents_are_separate_runs(subject, close):
    starts = np.cumsum((0, *PARTS))[:-1]
    _, before = subject(3 * subject.x)  # of another document: it must not be seen
    y, state = subject(subject.x, before, reset=jnp.zeros((B, T), bool).at[:, starts].set(True))
    runs = [subject(part) for part in subject.parts()]
    close((y, state), (jnp.concatenate([y for y, _ in runs], axis=1), runs[-1][1]))


def test_a_reset_at_padding_empties_the_state(subject, close):
    last = jnp.zeros((B, T), bool).at[:, -1].set(True)
    _, state = subject(subject.x, reset=last, mask=~last)
    close(state, subject.mixer.init_state(B))


@pytest.mark.parametrize("where", ["left", "right", "interleaved"])
def test_padding_changes_nothing(subject, where, close):
    length = PARTS[1]
    places = {
        "left": np.arange(T - length, T),
        "right": np.arange(length),
        "interleaved": np.sort(np.random.default_rng(0).permutation(T)[:length]),
    }[where]
    x = (5 * jnp.ones((B, T, D))).at[:, places].set(subject.x[:, :length])
    _, before = subject(-subject.x)
    y, state = subject(x, before, mask=jnp.zeros((B, T), bool).at[:, places].set(True))
    close((y[:, places], state), subject(subject.x[:, :length], before))
    assert bool(jnp.all(jnp.isfinite(y)))


def test_no_output_depends_on_a_later_input_and_all_on_their_own(subject):
    x = subject.x[:1, :6]
    jac = jax.jit(jax.jacobian(lambda x: subject.mixer.apply(subject.params, x)[0][0]))(x)[:, :, 0]
    size = jnp.max(jnp.abs(jac), axis=(1, 3))  # (t of y, t of x)
    assert bool(jnp.all(jnp.triu(size, 1) == 0))
    assert bool(jnp.all(jnp.diagonal(size) > 0))
    assert float(size[-1, max(0, 5 - subject.reach)]) > 0


def test_a_poisoned_row_touches_no_other(subject):
    others = np.arange(B) != 2
    poisoned = subject(subject.x.at[2, 3].set(jnp.nan))
    assert_equal(take(poisoned, others), take(subject.full, others))
    assert bool(jnp.any(jnp.isnan(poisoned[0][2])))


def test_states_are_gathered_on_their_first_axis(subject, close):
    rows = np.array([3, 0, 3, 1])
    first, rest, _ = subject.parts()
    _, state = subject(first)
    close(subject(rest[rows], take(state, rows)), take(subject(rest, state), rows))


def test_init_state_is_like_the_state_returned(subject):
    def kind(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    assert kind(subject.mixer.init_state(B)) == kind(subject.full[1])


def test_gradients_are_those_of_float64(subject, as_users_do, close):
    x = subject.x[:, :16]
    with as_users_do():
        narrow = jax.tree.map(np.asarray, subject.gradients(x, subject.params))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, np.float64), (x, subject.params))
        exact = jax.tree.map(np.asarray, subject.gradients(*wide))
    close(narrow, exact)


def test_bfloat16_activations_are_near_float32(subject, close):
    run = jax.jit(subject.mixer.apply)
    params = {"params": meta.unbox(subject.declared)}
    x = subject.x.astype(jnp.bfloat16)
    y, state = run(params, x)
    assert y.dtype == jnp.bfloat16
    assert jax.tree.map(lambda s: s.dtype, state) == jax.tree.map(lambda s: s.dtype, subject.full[1])
    close((y, state), run(params, x.astype(jnp.float32)), "bfloat16")


def test_extreme_inputs_have_finite_outputs_and_gradients(subject, as_users_do):
    with as_users_do():
        results = subject(1e3 * subject.x), subject.gradients(1e3 * subject.x[:, :16], subject.params)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(results))


def test_every_parameter_is_declared(subject):
    leaves = jax.tree.leaves(subject.declared, is_leaf=is_declared)
    assert leaves
    assert all(is_declared(leaf) for leaf in leaves)


def test_no_parameter_has_a_weak_type_with_which_a_second_step_would_be_compiled_again(subject):
    assert not any(x.weak_type for x in jax.tree.leaves(meta.unbox(subject.declared)))


def test_eight_devices_give_the_numbers_of_one(subject, close):
    mesh = make_mesh((2, 2, 2, 1))
    params = jax.device_put(subject.params, {"params": shardings(mesh, subject.declared)})
    x = jax.device_put(subject.x, batch_sharding(mesh))
    flag = jax.device_put(jnp.zeros((B, T), bool).at[1, 5].set(True), batch_sharding(mesh))
    state = jax.device_put(subject(subject.x)[1], replicated(mesh))
    with jax.set_mesh(mesh):
        sharded = jax.jit(subject.mixer.apply)(params, x, state=state, reset=flag, mask=~flag)
    close(sharded, subject(subject.x, subject(subject.x)[1], np.asarray(flag), ~np.asarray(flag)))


@pytest.mark.parametrize(("name", "options", "message"), [(name, *bad) for name in BAD for bad in BAD[name]])
def test_a_bad_field_is_named(name, options, message):
    mixer = MIXERS[name](width=D, **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, T, D)))


def test_every_mixer_has_its_bad_fields_tested():
    assert set(BAD) == set(MIXERS)
