"""Causal attention with rotary positions, grouped queries and, if wanted, a local window.

    q_t, k_t, v_t = R_t (W_q x_t), R_t (W_k x_t), W_v x_t
    y_t = W_o Σ_s softmax_s(q_t · k_s / √K) v_s,    s over the last `window` tokens of t's document, t included

for each head (Vaswani et al. 2017, arXiv 1706.03762, eq. 1). R_t turns the pair (i, i + R/2) of a head's first R
entries by the angle t · base^(-2i/R) (RoFormer, arXiv 2104.09864, eq. 34, which has R = K and pairs neighbours: a
permutation of W_q and W_k). RecurrentGemma has R = K/2, a window, and a bias after W_o. Several query heads may share
one key and value head (GQA, arXiv 2305.13245). With a gate, W_o sees the heads' outputs times σ(W_g x_t), elementwise
(arXiv 2505.06708, the gate at G1). `ops.causal_attention` keeps the scores of an eighth of the queries at a time.

With weights = "softplus", LSSAR (Gao & Spratling 2025, arXiv 2501.13428), there is neither softmax nor 1 / √K:

    q_t, k_t = q_t / |q_t|, k_t / |k_t|
    A_ts = softplus(log K · log N_t · q_t · k_s),  A_t = A_t / Σ_s A_ts
    A_ts = ReLU(A_ts N_t - O_t)^power,             A_t = A_t / Σ_s A_ts
    y_t = W_o Σ_s A_ts v_s

with N_t how many tokens t sees, and O_t = 1, but 0 where that is 3 or less. The paper has no window, so that N_t is
t's place in its document, counted from 1; with one it is no more than `window`. Where all weights are equal the second
stage is 0 / 0: `softplus_weights` adds an ε, and A_t is 0. From their norm on q and k are float32 or wider, because the
power multiplies rounding: that of a bfloat16 projection moves y by up to 1.5 % at power 3 and 6 % at 15 (width 16).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, as_state, linear, scale
from jaxseq.ops import rms_norm, unit_norm
from jaxseq.ops.attention_weights import softmax_weights, softplus_weights
from jaxseq.ops.causal_attention import Keys, Tokens, Weigh, causal_attention, ring_attention
from jaxseq.ops.checks import check_bool, check_choice, check_shapes
from jaxseq.ops.positions import place, rotate

State = dict[str, jax.Array]


class Attention(Mixer):
    """Attention over the document so far, or over its last `window` tokens.

    Attributes:
      heads: query heads.
      kv_heads: key and value heads, a divisor of heads (default: heads).
      head_dim: K, the even width of a head (default: width / heads).
      window: how many tokens a query sees, itself included; None for all of its document.
      context: longest document where window is None. The output at position `context` of a document and after is NaN,
        because the keys it should see are gone; a call with more tokens than that is refused.
      rope_base: longest wavelength of the rotary positions, in units of 2π tokens.
      rope_fraction: of a head's entries are turned, R / K; 0 for no positions at all.
      out_bias: adds a bias to the output.
      qk_norm, norm_eps: an RMSNorm of each query and key head, with a gain (K,), before they are turned.
      qk_norm_whole: the RMSNorm is of all heads at once, with gains (heads K,) and (kv_heads K,), as in OLMo 2.
      out_gate: multiplies the heads' outputs by the gate.
      weights: "softmax" or "softplus".
      power: with "softplus", of the second stage, 1 or more; 0 to leave that out, which is LSSA. The paper has 15 for
        documents longer than in training, and finds 3 the best for others.

    Parameters: 2 (heads + kv_heads) K D, D for the bias, 2 K or (heads + kv_heads) K for the norms, heads K D for the
    gate.
    State, a ring of S = window or context slots that holds the document's token at position p in slot p mod S:
    {"k", "v": (B, kv_heads, S, head_dim) float32, keys as queries meet them, "position": (B, S) int32, -1 where empty,
    "length": (B,) int32, tokens of the document so far}. Positions count a document's valid tokens from 0.
    """

    heads: int = 4
    kv_heads: int | None = None
    head_dim: int | None = None
    window: int | None = None
    context: int = 2048
    rope_base: float = 10000.0
    rope_fraction: float = 1.0
    out_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = 1e-6
    qk_norm_whole: bool = False
    out_gate: bool = False
    weights: str = "softmax"
    power: float = 15.0

    def init_state(self, batch: int) -> State:
        """An empty ring."""
        groups, width, slots = self.sizes()
        return {
            "k": jnp.zeros((batch, groups, slots, width), jnp.float32),
            "v": jnp.zeros((batch, groups, slots, width), jnp.float32),
            "position": jnp.full((batch, slots), -1, jnp.int32),
            "length": jnp.zeros((batch,), jnp.int32),
        }

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer. Raises ValueError for fields or shapes that do not fit."""
        groups, width, slots = self.sizes()
        self._check(x, reset, mask)
        cache = self.init_state(x.shape[0]) if state is None else state
        document, position = place(cache["length"], reset, mask, x.shape[1])

        def heads(name: str, count: int) -> jax.Array:
            axis = "heads" if count == self.heads else None  # shared heads are few: every device holds them all
            return linear(self, name, x, count * width, ("embed", axis)).reshape(*x.shape[:2], count, width)

        turn = partial(rotate, position=position, base=self.rope_base, turned=self._turned(width))
        q = turn(self._normed("norm_q", heads("w_q", self.heads)))
        new = {
            "k": jnp.swapaxes(turn(self._normed("norm_k", heads("w_k", groups))), 1, 2),
            "v": jnp.swapaxes(heads("w_v", groups), 1, 2),
            "position": position if mask is None else jnp.where(mask, position, -1),
        }
        after = write(cache, new, document, position[:, -1] + 1)
        at = Tokens(position, document)
        if state is not None and x.shape[1] == 1:
            at = Tokens(position, jnp.zeros_like(document))  # what the ring holds is of this document
            y = ring_attention(q, at, _keys(after), slots, self._weigh(), dtype=new["v"].dtype)
        else:
            keys = _keys(new, document) if state is None else _joined(state, new, document)
            y = causal_attention(q, at, keys, slots, self._weigh(), dense=mask is None)
        y = y.reshape(*x.shape[:2], self.heads * width)
        if self.out_gate:
            y = y * jax.nn.sigmoid(linear(self, "w_g", x, self.heads * width, ("embed", "heads")))
        y = linear(self, "w_o", y, self.width, ("heads", "embed"), bias=self.out_bias)
        if self.window is None:
            lost = position >= slots if mask is None else mask & (position >= slots)
            y = jnp.where(lost[..., None], jnp.nan, y)
        return y, after

    def _normed(self, name: str, x: jax.Array) -> jax.Array:
        if self.qk_norm:
            flat = x.reshape(*x.shape[:2], -1) if self.qk_norm_whole else x
            x = rms_norm(flat, scale(self, name, flat.shape[-1], None), self.norm_eps).reshape(x.shape)
        return unit_norm(as_state(x)) if self.weights == "softplus" else x

    def _weigh(self) -> Weigh:
        return partial(softplus_weights, power=self.power) if self.weights == "softplus" else softmax_weights

    def sizes(self) -> tuple[int, int, int]:
        """(kv_heads, head_dim, slots)."""
        for name in ("heads", "kv_heads", "head_dim", "window", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        groups = self.heads if self.kv_heads is None else self.kv_heads
        if self.heads % groups:
            raise ValueError(f"kv_heads = {groups} must divide heads = {self.heads}")
        if self.head_dim is None and self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width} where head_dim is not given")
        width = self.width // self.heads if self.head_dim is None else self.head_dim
        self._turned(width)
        if not self.rope_base > 1:
            raise ValueError(f"rope_base must be above 1, got {self.rope_base}")
        check_choice("weights", self.weights, ("softmax", "softplus"))
        if not (self.power == 0 or self.power >= 1):
            raise ValueError(f"power must be 0 or at least 1, got {self.power}")
        return groups, width, self.context if self.window is None else self.window

    def _turned(self, width: int) -> int:
        """R, how many entries of a head are turned."""
        if not 0 <= self.rope_fraction <= 1:
            raise ValueError(f"rope_fraction must be in [0, 1], got {self.rope_fraction}")
        turned = round(self.rope_fraction * width)
        if turned % 2 or abs(turned - self.rope_fraction * width) > 1e-3:
            got = f"{self.rope_fraction} * {width}"
            raise ValueError(f"rope_fraction * head_dim must be even, to be turned in pairs, got {got}")
        return turned

    def _check(self, x: jax.Array, reset: jax.Array | None, mask: jax.Array | None) -> None:
        check_shapes(x=(x, f"B T {self.width}"), reset=(reset, "B T"), mask=(mask, "B T"))
        check_bool(reset=reset, mask=mask)
        if self.window is None and x.shape[1] > self.context:
            raise ValueError(
                f"model.options.attention.context = {self.context} must be at least the number of tokens in a call, "
                f"got {x.shape[1]}; or set model.options.attention.window"
            )


def _keys(entries: State, document: jax.Array | None = None) -> Keys:
    """The keys of a ring or of new tokens, of their documents or of document 0, which the state belongs to."""
    place = entries["position"]
    return Keys(entries["k"], entries["v"], Tokens(place, jnp.zeros_like(place) if document is None else document))


def _joined(past: State, new: State, document: jax.Array) -> Keys:
    """The keys of the ring, then the new ones, in their dtype."""
    join = lambda old, new: jnp.concatenate([old.astype(new.dtype), new], axis=new.ndim // 2)  # noqa: E731
    return jax.tree.map(join, _keys(past), _keys(new, document))


def write(cache: State, new: State, document: jax.Array, length: jax.Array) -> State:
    """The state after the last token: the last S valid tokens of the last document, each in its slot."""
    slots, last = cache["position"].shape[1], document[:, -1:]
    kept = (document == last) & (new["position"] >= 0) & (length[:, None] - new["position"] <= slots)
    slot = jnp.where(kept, new["position"] % slots, slots)  # beyond the ring: dropped
    put = jax.vmap(lambda row, index, entries: row.at[index].set(entries, mode="drop"))
    put_heads = jax.vmap(put, in_axes=(1, None, 1), out_axes=1)

    def ring(name: str, empty: int, put: Callable[..., jax.Array] = put_heads) -> jax.Array:
        old = cache[name]
        fresh = (last > 0).reshape(-1, *(1,) * (old.ndim - 1))
        return put(jnp.where(fresh, empty, old), slot, new[name].astype(old.dtype))

    return {"k": ring("k", 0), "v": ring("v", 0), "position": ring("position", -1, put), "length": length}
