"""A language model of jaxseq in plain PyTorch: every mixer, every cell, one file that needs nothing but torch.

    import torch, modeling_jaxseq
    model = modeling_jaxseq.load(".")                          # the folder with config.json and the safetensors
    logits, state = model(tokens)                              # (B, T) -> (B, T, vocab), and what decoding carries
    ids = model.generate(modeling_jaxseq.encode("def "), 64)   # byte-level models: text in, text out by `decode`

With transformers, `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` gives the same model.

Recurrences are loops over time, as the papers have them: for decoding, for reading and for checking, not for fast
training. Time is axis 1. The state is an argument and a return value of a size that does not grow (attention keeps its
last `window` or `context` tokens). A token with `mask` False changes no state. Recurrent states, norms and logits are
float32 or wider whatever the parameters' dtype.

Sections: arrays; recurrences; what mixers share; mixers with a vector for a state; with a matrix; without a linear
recurrence; cells; the model; folders; transformers. This file is copied beside the weights whenever a model is
converted, which is why it is one file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, hardsigmoid, logsigmoid, relu, silu, softmax, softplus

State = dict[str, Tensor]
States = tuple[Tensor, ...]
Mask = Tensor | None

NOTHING = -1e30  # the logarithm of an empty sum: finite, because -inf has no difference to itself


# ---- arrays


def wide(x: Tensor) -> Tensor:
    """x in float32 or wider."""
    return x if x.dtype in (torch.float64, torch.complex64, torch.complex128) else x.float()


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """x W + b over the last axis, in x's dtype."""
    y = x @ w.to(x.dtype)
    return y if b is None else y + b.to(y.dtype)


def wide_linear(x: Tensor, w: Tensor) -> Tensor:
    """x W in float32 or wider, W rounded to x's dtype first."""
    return wide(x) @ wide(w.to(x.dtype))


def head_linear(x: Tensor, w: Tensor) -> Tensor:
    """x W in float32 or wider for W block-diagonal, (heads, D / heads, E / heads)."""
    parts = wide(x).reshape(*x.shape[:-1], w.shape[0], w.shape[1])
    return torch.einsum("...hi,hij->...hj", parts, wide(w.to(x.dtype))).reshape(*x.shape[:-1], -1)


def rms_norm(x: Tensor, gain: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """x / √(mean(x²) + ε), times a gain, over the last axis."""
    h = wide(x)
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)
    return (h if gain is None else h * gain).to(x.dtype)


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean(x)) / √(var(x) + ε), times a gain, plus a bias, over the last axis."""
    h = wide(x)
    h = h - h.mean(-1, keepdim=True)
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps) * gain
    return (h if bias is None else h + bias).to(x.dtype)


def l2_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / √(Σ x² + ε) over the last axis, in float32 or wider."""
    h = wide(x)
    return h * torch.rsqrt(h.square().sum(-1, keepdim=True) + eps)


def unit_norm(x: Tensor) -> Tensor:
    """x / |x| over the last axis, in float32 or wider; zeros stay zeros."""
    h = wide(x)
    return h / h.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh."""
    return gelu(x, approximate="tanh")


def like(flag: Tensor, x: Tensor) -> Tensor:
    """A flag with as many axes as x, from its leading ones."""
    return flag.reshape(flag.shape + (1,) * (x.ndim - flag.ndim))


def spread(x: Tensor, heads: int) -> Tensor:
    """(B, T, G, K) as (B, T, heads, K): heads / G neighbours share one of G."""
    return x.repeat_interleave(heads // x.shape[2], dim=2)


def take(x: Tensor, index: Tensor) -> Tensor:
    """x (B, T, C) at the places (B, N) of its second axis."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


# ---- recurrences


def recurrence(step: Callable[..., tuple[States, Tensor]], state: States, inputs: States, mask: Mask):
    """(state, y)_t = step(state_{t-1}, *u_t) for every t: all y (B, T, ...) and the last state.

    `inputs` are the u, (B, T, ...) each; the state is left as it is where `mask` (B, T) is False.
    """
    outputs = []
    for t in range(inputs[0].shape[1]):
        new, y = step(state, *(u[:, t] for u in inputs))
        if mask is not None:
            new = tuple(torch.where(like(mask[:, t], x), x, old) for x, old in zip(new, state, strict=True))
        state = new
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def linear_scan(a: Tensor, b: Tensor, h: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """h_t = a_t h_{t-1} + b_t: all of them, and the last. a broadcasts against b (B, T, ...)."""

    def step(state, a, b):
        h = a * state[0] + b
        return (h,), h

    h, (last,) = recurrence(step, (h,), (a.expand_as(b), b), mask)
    return h, last


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, S: Tensor, mask: Mask, scale: float = 1.0, bonus: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = Diag(a_t) S_{t-1} + k_t v_tᵀ, y_t = S_tᵀ q_t; with a bonus u, y_t = (S_{t-1} + Diag(u) k_t v_tᵀ)ᵀ q_t.

    q, k (B, T, G, K) where G divides the heads H of v (B, T, H, V); a broadcasts to (B, T, H, K).
    """
    q, k, v = spread(wide(q), v.shape[2]) * scale, spread(wide(k), v.shape[2]), wide(v)

    def step(state, q, k, v, a):
        new = k[..., None] * v[..., None, :]
        S = a[..., None] * state[0] + new
        read = S if bonus is None else state[0] + bonus[..., None] * new
        return (S,), torch.einsum("bhk,bhkv->bhv", q, read)

    y, (S,) = recurrence(step, (S,), (q, k, v, a.expand(*v.shape[:3], -1)), mask)
    return y, S


def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, a: Tensor | None, S: Tensor, mask: Mask
) -> tuple[Tensor, Tensor]:
    """S_t = (I - β_t k_t k_tᵀ) Diag(a_t) S_{t-1} + β_t k_t v_tᵀ, y_t = S_tᵀ q_t / √K; β (B, T, H)."""
    q, k, v = spread(q, v.shape[2]) * q.shape[-1] ** -0.5, spread(k, v.shape[2]), wide(v)
    a = k.new_ones(1, 1, 1, 1) if a is None else a

    def step(state, q, k, v, beta, a):
        S = a[..., None] * state[0]
        error = v - torch.einsum("bhk,bhkv->bhv", k, S)
        S = S + (beta[..., None] * k)[..., None] * error[..., None, :]
        return (S,), torch.einsum("bhk,bhkv->bhv", q, S)

    y, (S,) = recurrence(step, (S,), (q, k, v, beta, a.expand(*v.shape[:3], -1)), mask)
    return y, S


def softmax_scan(
    s: Tensor, v: Tensor, state: States, mask: Mask, decay: Tensor | None = None, bonus: Tensor | None = None
) -> tuple[Tensor, States]:
    """o_t = Σ_{j≤t} e^{s_j - (t-j) decay} v_j / the same with v = 1, for scores (B, T, H) and values (B, T, H, V).

    With a bonus, o_t is of the past before it decays and of e^{bonus + s_t} v_t. The state (m, u, w) stands for the
    sums e^m u of the weights and e^m w of the weighted values.
    """
    decay = s.new_zeros(()) if decay is None else decay

    def add(m, u, w, decay, s, v):
        largest = torch.maximum(m - decay, s)
        old, new = torch.exp((m - largest) - decay), torch.exp(s - largest)
        return largest, old * u + new, old[..., None] * w + new[..., None] * v

    def step(state, s, v):
        m, u, w = state
        after = add(m, u, w, decay, s, v)
        _, u, w = after if bonus is None else add(m, u, w, torch.zeros_like(decay), bonus + s, v)
        return after, w / u[..., None]

    return recurrence(step, state, (wide(s), wide(v)), mask)


def mlstm(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State, mask: Mask, eps: float
) -> tuple[Tensor, State]:
    """h_t = S_tᵀ q_t / max(|n_t . q_t|, 1) with S_t = σ(f_t) S_{t-1} + e^{i_t} k_t v_tᵀ, n_t = the same with v = 1.

    q is divided by √K. S and n are kept in units of e^m, m_t = max(log σ(f_t) + m_{t-1}, i_t), which cancel.
    """
    q, k, v = wide(q) * q.shape[-1] ** -0.5, wide(k), wide(v)

    def step(state, q, k, v, i, log_f):
        S, n, m = state
        largest = torch.maximum(log_f + m, i)
        kept, new = torch.exp(log_f + (m - largest)), torch.exp(i - largest)
        k = new[..., None] * k
        S, n = kept[..., None, None] * S + k[..., None] * v[..., None, :], kept[..., None] * n + k
        size = torch.maximum((q * n).sum(-1).abs(), torch.exp(-largest)) + eps
        return (S, n, largest), torch.einsum("bhk,bhkv->bhv", q, S) / size[..., None]

    before = (state["S"], state["n"], state["m"])
    h, after = recurrence(step, before, (q, k, v, i, logsigmoid(f)), mask)
    return h, dict(zip("Snm", after, strict=True))


def causal_conv(x: Tensor, w: Tensor, b: Tensor | None, past: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """y_t = b + Σ_i w_i x_{t-W+1+i} over the valid tokens; taps (W, C), the state is the last W - 1 of them."""
    taps, time = w.shape[0], x.shape[1]
    valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
    order = torch.argsort(~valid, dim=1, stable=True)  # the valid tokens come first
    line = torch.cat([past.to(x.dtype), take(x, order)], dim=1)
    y = line[:, taps - 1 :] * w[-1]
    for i in range(taps - 1):
        y = y + line[:, i : i + time] * w[i]
    y = take(y if b is None else y + b, torch.argsort(order, dim=1)).to(x.dtype)
    last = valid.sum(1, keepdim=True) + torch.arange(taps - 1, device=x.device)
    return y, wide(take(line, last))


def token_shift(x: Tensor, past: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """x_{t-1}, zero before the first token, and the state (B, 1, C)."""
    return causal_conv(x, x.new_tensor([[1.0], [0.0]]).expand(2, x.shape[2]), None, past, mask)


def places(length: Tensor, mask: Mask, time: int) -> Tensor:
    """Where each token is in its document (B, T), counting valid tokens from 0; `length` (B,) have been before."""
    if mask is None:
        return length[:, None] + torch.arange(time, device=length.device)
    return length[:, None] + mask.long().cumsum(1) - 1


def rotate(x: Tensor, position: Tensor, base: float, turned: int | None = None) -> Tensor:
    """x (B, T, H, K) with the pairs (i, i + R/2) of its first R entries turned by the angle t base^(-2i/R).

    Angles are counted in units of 2^-32 turns, as integers, so that they are as good at late positions as at early.
    """
    turned = x.shape[-1] if turned is None else turned
    if not turned:
        return x
    turns = [base ** (-2 * i / turned) / (2 * math.pi) for i in range(turned // 2)]
    units = position[..., None, None] * torch.tensor([round(n * 2**32) for n in turns], device=x.device)
    angle = wide(((units + 2**31) % 2**32 - 2**31).to(wide(x).dtype)) * (2 * math.pi / 2**32)
    left, right = wide(x[..., :turned]).chunk(2, dim=-1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    y = torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).to(x.dtype)
    return torch.cat([y, x[..., turned:]], dim=-1)


# ---- what mixers share


class Part(nn.Module):
    """A module whose parameters are declared by their shapes; the numbers come from a folder."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def declare(self, **shapes: tuple[int, ...] | None) -> None:
        """Parameters of zeros by name; a shape of None declares nothing."""
        for name, shape in shapes.items():
            if shape is not None:
                self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


@dataclass
class Depth:
    """The place of a layer among those of its kind, for the mixers that depend on it.

    Attributes:
      layers: how many there are.
      index: 0 for the one nearest to the input.
      bounds: (layers, n) lower bounds of forget gates, a row for each.
      first: what the one with index 0 leaves for the others.
      place, total: index and layers of all kinds.
    """

    layers: int
    total: int
    bounds: Tensor | None = None
    index: int = 0
    first: Tensor | None = None
    place: int = 0


class Mixer(Part):
    """A layer over time: `mixer(x, state, mask, depth) -> (y, state)`, x and y (B, T, width).

    `shapes` has the shape of each part of a sequence's state by name. What is called m or z starts at NOTHING,
    positions at -1, and all else at zero. Keyword arguments that only matter at initialisation or to training are taken
    and left alone.
    """

    complex_state = False
    table: int | None = None  # columns of the table of lower bounds that the model has for this kind

    def __init__(self, **shapes: tuple[int, ...]):
        super().__init__()
        self.shapes = shapes

    def init_state(self, batch: int) -> State:
        """The state before a document."""
        return {name: self._empty(name, (batch, *shape)) for name, shape in self.shapes.items()}

    def _empty(self, name: str, shape: tuple[int, ...]) -> Tensor:
        own = next(self.parameters())
        if name in ("length", "position"):
            return torch.full(shape, -1 if name == "position" else 0, device=own.device)
        dtype = torch.float64 if own.dtype == torch.float64 else torch.float32
        if self.complex_state and name == "h":
            dtype = dtype.to_complex()
        return torch.full(shape, NOTHING if name in ("m", "z") else 0.0, dtype=dtype, device=own.device)

    def conv(self, x: Tensor, state: State, mask: Mask, name: str = "conv") -> tuple[Tensor, Tensor]:
        """The convolution of that name and its state."""
        return causal_conv(x, getattr(self, f"{name}_w"), getattr(self, f"{name}_b", None), state[name], mask)


# ---- mixers with a vector for a state


class LRU(Mixer):
    """λ = exp(-exp(ν) + i exp(θ)), h_t = λ h_{t-1} + exp(γ) (B x_t), y_t = Re(C h_t) + D x_t, then GELU and a GLU."""

    complex_state = True

    def __init__(self, width: int, states: int | None = None, **initial: Any):
        n = states or width
        super().__init__(h=(n,))
        self.declare(nu_log=(n,), theta_log=(n,), gamma_log=(n,), w_in=(2, width, n), w_out=(2, n, width), d=(width,))
        self.declare(w_value=(width, width), w_gate=(width, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        a = torch.exp(torch.complex(-torch.exp(wide(self.nu_log)), torch.exp(wide(self.theta_log))))
        driven = torch.complex(*(wide_linear(x, w) for w in self.w_in))
        h, last = linear_scan(a, torch.exp(wide(self.gamma_log)) * driven, state["h"], mask)
        y = wide_linear(h.real, self.w_out[0]) - wide_linear(h.imag, self.w_out[1])
        y = gelu_tanh((y + self.d * x).to(x.dtype))
        return linear(y, self.w_value) * torch.sigmoid(linear(y, self.w_gate)), {"h": last}


class S5(Mixer):
    """h_t = a h_{t-1} + g B x_t, y_t = 2 Re(C h_t) + D x_t, a and g of Λ and Δ by "zoh" or "bilinear", then a gate."""

    complex_state = True

    def __init__(
        self,
        width: int,
        states: int | None = None,
        discretization: str = "zoh",
        activation: str = "full_glu",
        clip_eigs: bool = False,
        **initial: Any,
    ):
        n = (states or width) // 2
        super().__init__(h=(n,))
        self.discretization, self.activation, self.clip_eigs = discretization, activation, clip_eigs
        self.declare(lambda_re=(n,), lambda_im=(n,), log_step=(n,), b=(2, width, n), c=(2, n, width), d=(width,))
        for name in {"full_glu": ("gate", "value"), "gelu": ()}.get(activation, ("gate",)):
            self.declare(**{f"w_{name}": (width, width), f"b_{name}": (width,)})

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        a, gain = self._discretized()
        driven = torch.complex(*(wide_linear(x, w) for w in self.b))
        h, last = linear_scan(a, gain * driven, state["h"], mask)
        y = 2 * (wide_linear(h.real, self.c[0]) - wide_linear(h.imag, self.c[1]))
        return self._activated((y + self.d * x).to(x.dtype)), {"h": last}

    def _discretized(self) -> tuple[Tensor, Tensor]:
        real, imag, step = wide(self.lambda_re), wide(self.lambda_im), torch.exp(wide(self.log_step))
        eigenvalues = torch.complex(real.clamp(max=-1e-4) if self.clip_eigs else real, imag)
        z = eigenvalues * step
        if self.discretization == "bilinear":
            return (1 + z / 2) / (1 - z / 2), step / (1 - z / 2)
        grown, still = torch.expm1(z), z == 0
        return 1 + grown, step * torch.where(still, 1, grown / torch.where(still, 1, z))

    def _activated(self, y: Tensor) -> Tensor:
        u = gelu_tanh(y)
        if self.activation == "gelu":
            return u
        gate = torch.sigmoid(linear(u, self.w_gate, self.b_gate))
        if self.activation == "full_glu":
            return linear(u, self.w_value, self.b_value) * gate
        return (y if self.activation == "half_glu2" else u) * gate


class S4D(Mixer):
    """h_t = e^{AΔ} h_{t-1} + x_t of each channel, y_t = 2 Re(Σ C (e^{AΔ} - 1) / A h_t) + D x_t, then a GLU."""

    complex_state = True

    def __init__(self, width: int, states: int = 64, **initial: Any):
        n = states // 2
        super().__init__(h=(width, n))
        self.declare(log_a_re=(width, n), a_im=(width, n), c=(2, width, n), log_step=(width,), d=(width,))
        self.declare(w_value=(width, width), b_value=(width,), w_gate=(width, width), b_gate=(width,))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        a = torch.complex(-torch.exp(wide(self.log_a_re)), wide(self.a_im))
        grown = torch.expm1(a * torch.exp(wide(self.log_step))[:, None])
        c = torch.complex(*wide(self.c)) * grown / a

        def step(state, x):
            h = (1 + grown) * state[0] + x[..., None]
            return (h,), 2 * (h * c).real.sum(-1)

        y, (last,) = recurrence(step, (state["h"],), (wide(x),), mask)
        u = gelu_tanh((y + self.d * x).to(x.dtype))
        return linear(u, self.w_value, self.b_value) * torch.sigmoid(linear(u, self.w_gate, self.b_gate)), {"h": last}


class MinGRU(Mixer):
    """h_t = (1 - z_t) h_{t-1} + z_t g(c_t), z_t = σ(W_z x_t), c_t = W_h x_t; the state is h_t less its first value."""

    def __init__(self, width: int, inner: int | None = None, form: str = "log", conv_width: int = 4, **initial: Any):
        inner = inner or width
        super().__init__(h=(inner,), **({"conv": (conv_width - 1, width)} if conv_width else {}))
        self.form, self.conv_width = form, conv_width
        self.declare(**{f"w_{gate}": (width, inner) for gate in self.gates()})
        self.declare(**{f"b_{gate}": (inner,) for gate in self.gates()}, w_o=(inner, width), b_o=(width,))
        if conv_width:
            self.declare(conv_w=(conv_width, width), conv_b=(width,))

    def gates(self) -> str:
        """Their names, a letter each."""
        return "zh"

    def share(self, z: Tensor) -> Tensor:
        """The logit of the candidate's share."""
        return z

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        after = {}
        if self.conv_width:
            mixed, after["conv"] = self.conv(x, state, mask)
            x = x + mixed
        gates = {g: wide(linear(x, getattr(self, f"w_{g}"), getattr(self, f"b_{g}"))) for g in self.gates()}
        c = gates.pop("h")
        z = self.share(*gates.values())
        c = c if self.form == "plain" else torch.where(c >= 0, c, torch.tanh(c / 2) / 2)  # g(c) - 1/2
        h, after["h"] = linear_scan(torch.sigmoid(-z), torch.sigmoid(z) * c, state["h"], mask)
        h = h if self.form == "plain" else h + 0.5
        return linear(h.to(x.dtype), self.w_o, self.b_o), after


class MinLSTM(MinGRU):
    """h_t = f_t / (f_t + i_t) h_{t-1} + i_t / (f_t + i_t) g(c_t), gates of x_t alone; see MinGRU."""

    def gates(self) -> str:
        """See MinGRU."""
        return "fih"

    def share(self, f: Tensor, i: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """log i - log f."""
        return logsigmoid(i) - logsigmoid(f)


def bounded_gate(z: Tensor, depth: Depth) -> tuple[Tensor, Tensor]:
    """f = γ + (1 - γ) σ(z), and 1 - f, with the layer's lower bound γ."""
    bound = 0.0 if depth.bounds is None else depth.bounds[depth.index]
    return bound + (1 - bound) * torch.sigmoid(z), (1 - bound) * torch.sigmoid(-z)


class HGRN(Mixer):
    """h_t = f_t e^{iθ} h_{t-1} + (1 - f_t) c_t, f_t bounded below by depth; "real" is without e^{iθ} and biases."""

    def __init__(self, width: int, inner: int | None = None, form: str = "complex", **initial: Any):
        inner = inner or width
        super().__init__(h=(inner,))
        self.table, self.form, self.complex_state = inner, form, form == "complex"
        if form == "real":
            self.declare(w_f=(width, inner), w_i=(width, inner), w_g=(width, inner), w_o=(inner, width), norm=(inner,))
            return
        self.declare(theta=(inner,), norm=(2 * inner,), norm_b=(2 * inner,))
        for name in ("f", "re", "im"):
            self.declare(**{f"w_{name}": (width, inner), f"b_{name}": (inner,)})
        self.declare(w_g=(width, 2 * inner), b_g=(2 * inner,), w_o=(2 * inner, width), b_o=(width,))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        kept, new = bounded_gate(wide(self._map("f", x)), depth)
        if self.form == "real":
            h, last = linear_scan(kept, new * silu(self._map("i", x)), state["h"], mask)
            y = rms_norm(h, self.norm)
        else:
            theta = wide(self.theta)
            real, imag = (wide(new * silu(self._map(name, x))) for name in ("re", "im"))
            a = torch.complex(kept * torch.cos(theta), kept * torch.sin(theta))
            h, last = linear_scan(a, torch.complex(real, imag), state["h"], mask)
            y = layer_norm(torch.cat([h.real, h.imag], dim=-1), self.norm, self.norm_b)
        return self._map("o", y.to(x.dtype) * silu(self._map("g", x))), {"h": last}

    def _map(self, name: str, x: Tensor) -> Tensor:
        return linear(x, getattr(self, f"w_{name}"), getattr(self, f"b_{name}", None))


class RGLRU(Mixer):
    """h_t = a_t h_{t-1} + √(1 - a_t²) (i_t u_t), log a_t = -8 r_t softplus(Λ), u = conv(W_x x); first tokens whole."""

    def __init__(self, width: int, inner: int | None = None, heads: int = 16, conv_width: int = 4, **initial: Any):
        inner = inner or width
        super().__init__(h=(inner,), conv=(conv_width - 1, inner), length=())
        block = (heads, inner // heads)
        self.declare(w_z=(width, inner), b_z=(inner,), w_x=(width, inner), b_x=(inner,))
        self.declare(conv_w=(conv_width, inner), conv_b=(inner,), w_o=(inner, width), b_o=(width,))
        self.declare(w_r=(*block, block[1]), b_r=block, w_i=(*block, block[1]), b_i=block, **{"lambda": (inner,)})

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        u, conv = self.conv(linear(x, self.w_x, self.b_x), state, mask)
        r = torch.sigmoid(head_linear(wide(u), self.w_r) + self.b_r.flatten())
        i = torch.sigmoid(head_linear(wide(u), self.w_i) + self.b_i.flatten())
        log_a = -8 * r * softplus(wide(getattr(self, "lambda")))
        position = places(state["length"], mask, x.shape[1])
        gain = torch.where(position[..., None] == 0, 1, torch.sqrt(-torch.expm1(2 * log_a)))
        h, last = linear_scan(torch.exp(log_a), gain * (i * u), state["h"], mask)
        y = (gelu_tanh(linear(x, self.w_z, self.b_z)) * h).to(x.dtype)
        return linear(y, self.w_o, self.b_o), {"h": last, "conv": conv, "length": position[:, -1] + 1}


class Mamba(Mixer):
    """h_t = exp(dt_t A) h_{t-1} + (dt_t x_t) B_t of each channel, y_t = C_t . h_t + D x_t, behind a convolution."""

    def __init__(
        self,
        width: int,
        inner: int | None = None,
        states: int = 16,
        dt_rank: int | None = None,
        conv_width: int = 4,
        select_norm: str = "none",
        norm_eps: float = 1e-6,
        **initial: Any,
    ):
        inner, rank = inner or 2 * width, dt_rank or -(-width // 16)
        super().__init__(conv=(conv_width - 1, inner), h=(states, inner))
        self.sizes, self.select_norm, self.norm_eps = (rank, states, states), select_norm, norm_eps
        self.declare(w_z=(width, inner), w_x=(width, inner), conv_w=(conv_width, inner), conv_b=(inner,))
        self.declare(w_select=(inner, rank + 2 * states), w_dt=(rank, inner), b_dt=(inner,))
        self.declare(a_log=(states, inner), d=(inner,), w_o=(inner, width))
        if select_norm == "learned":
            self.declare(norm_dt=(rank,), norm_b=(states,), norm_c=(states,))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        u, conv = self.conv(linear(x, self.w_x), state, mask)
        u = silu(u)
        r, b, c = wide_linear(u, self.w_select).split(self.sizes, dim=-1)
        r, b, c = self._norm("norm_dt", r), self._norm("norm_b", b), self._norm("norm_c", c)
        dt = softplus(linear(r, self.w_dt) + self.b_dt)
        rates = torch.exp(wide(self.a_log))

        def step(state, u, dt, b, c):
            h = torch.exp(-dt[:, None] * rates) * state[0] + (dt * u)[:, None] * b[..., None]
            return (h,), torch.einsum("bne,bn->be", h, c) + self.d * u

        y, (h,) = recurrence(step, (state["h"],), (wide(u), dt, b, c), mask)
        return linear(y.to(x.dtype) * silu(linear(x, self.w_z)), self.w_o), {"conv": conv, "h": h}

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return x if self.select_norm == "none" else rms_norm(x, getattr(self, name, None), self.norm_eps)


class Longhorn(Mixer):
    """h_t = (1 - ε_t k_t²) h_{t-1} + ε_t x_t k_t of each channel, ε = β / (1 + β |k|²), in the block of Mamba."""

    def __init__(
        self,
        width: int,
        inner: int | None = None,
        states: int = 16,
        beta_rank: int | None = None,
        conv_width: int = 4,
        **initial: Any,
    ):
        inner, rank = inner or 2 * width, beta_rank or -(-width // 16)
        super().__init__(conv=(conv_width - 1, inner), h=(states, inner))
        self.sizes = (rank, states, states)
        self.declare(w_z=(width, inner), w_x=(width, inner), conv_w=(conv_width, inner), conv_b=(inner,))
        self.declare(w_select=(inner, rank + 2 * states), w_beta=(rank, inner), b_beta=(inner,))
        self.declare(d=(inner,), w_o=(inner, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        u, conv = self.conv(linear(x, self.w_x), state, mask)
        u = silu(u)
        r, k, q = wide_linear(u, self.w_select).split(self.sizes, dim=-1)
        beta = torch.sigmoid(linear(r, self.w_beta, self.b_beta))
        rate = beta / (1 + beta * k.square().sum(-1, keepdim=True))

        def step(state, u, rate, k, q):
            k, rate = k[..., None], rate[:, None]
            h = (1 - rate * k.square()) * state[0] + rate * u[:, None] * k
            return (h,), torch.einsum("bne,bn->be", h, q) + self.d * u

        y, (h,) = recurrence(step, (state["h"],), (wide(u), rate, k, q), mask)
        return linear(y.to(x.dtype) * silu(linear(x, self.w_z)), self.w_o), {"conv": conv, "h": h}


class BlockLRNN(Mixer):
    """h_t = A_t h_{t-1} + v_t in blocks, A_t of x_t with centred columns over the largest one; h before is learned."""

    def __init__(self, width: int, block: int = 8, hidden: int | None = None, **initial: Any):
        hidden, groups = hidden or width * block, width // block
        super().__init__(h=(groups, block), length=())
        self.declare(w_1=(width, hidden), b_1=(hidden,), w_2=(hidden, width * block), b_2=(width * block,))
        self.declare(w_3=(width, width), b_3=(width,), w_4=(width, width), b_4=(width,))
        self.declare(start=(groups, block), norm=(width,), norm_b=(width,), w_o=(width, width), b_o=(width,))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        groups, size = self.shapes["h"]
        A = wide(linear(relu(linear(x, self.w_1, self.b_1)), self.w_2, self.b_2))
        A = A.reshape(*x.shape[:2], groups, size, size)
        A = A - A.mean(-2, keepdim=True)
        columns = A.abs().pow(1.2).sum(-2, keepdim=True) + 1e-12
        A = A / columns.amax(-1, keepdim=True) ** (1 / 1.2)
        v = wide(linear(relu(linear(x, self.w_3, self.b_3)), self.w_4, self.b_4)).reshape(*x.shape[:2], groups, size)
        position = places(state["length"], mask, x.shape[1])
        v = v + torch.where(like(position, v) == 0, (A * self.start[:, None]).sum(-1), 0)

        def step(state, A, v):
            h = torch.einsum("bgij,bgj->bgi", A, state[0]) + v
            return (h,), h

        h, (last,) = recurrence(step, (state["h"],), (A, v), mask)
        y = layer_norm(h.reshape(x.shape), self.norm, self.norm_b).to(x.dtype)
        return linear(y, self.w_o, self.b_o), {"h": last, "length": position[:, -1] + 1}


class Aaren(Mixer):
    """y_t = W_o Σ_{j≤t} e^{s_j} v_j / Σ_{j≤t} e^{s_j}, s_t = q · k_t / √K for each head, q a parameter."""

    def __init__(self, width: int, heads: int = 4, **initial: Any):
        super().__init__(m=(heads,), u=(heads,), w=(heads, width // heads))
        self.declare(w_k=(width, width), w_v=(width, width), query=(heads, width // heads), w_o=(width, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        heads, size = self.query.shape
        keys = wide(self.w_k).reshape(-1, heads, size)
        s = wide_linear(x, torch.einsum("dhk,hk->dh", keys, wide(self.query) / math.sqrt(size)))
        v = linear(x, self.w_v).reshape(*x.shape[:2], heads, size)
        y, after = softmax_scan(s, v, (state["m"], state["u"], state["w"]), mask)
        return linear(y.reshape(x.shape).to(x.dtype), self.w_o), dict(zip("muw", after, strict=True))


class RWKV4(Mixer):
    """RWKV-4's time mixing: wkv_t, a softmax average of v with decay w and bonus u, behind a token shift."""

    def __init__(self, width: int, inner: int | None = None, **initial: Any):
        inner = inner or width
        super().__init__(shift=(1, width), m=(inner,), u=(inner,), w=(inner,))
        self.declare(**{f"mu_{z}": (width,) for z in "rkv"}, **{f"w_{z}": (width, inner) for z in "rkv"})
        self.declare(decay_log=(inner,), bonus=(inner,), w_o=(inner, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        before, shift = token_shift(x, state["shift"], mask)

        def mapped(z):
            mu = getattr(self, f"mu_{z}")
            return linear((mu * x + (1 - mu) * before).to(x.dtype), getattr(self, f"w_{z}"))

        r, k, v = mapped("r"), mapped("k"), mapped("v")
        past, decay = (state["m"], state["u"], state["w"][..., None]), torch.exp(wide(self.decay_log))
        wkv, (m, u, w) = softmax_scan(wide(k), v[..., None], past, mask, decay, wide(self.bonus))
        y = linear(torch.sigmoid(r) * wkv[..., 0].to(x.dtype), self.w_o)
        return y, {"shift": shift, "m": m, "u": u, "w": w[..., 0]}


# ---- mixers with a matrix for a state


class Mamba2(Mixer):
    """S_t = exp(dt_t A) S_{t-1} + B_t (dt_t x_t)ᵀ, y_t = S_tᵀ C_t + D x_t of each head, behind convolutions."""

    def __init__(
        self,
        width: int,
        inner: int | None = None,
        head_dim: int | None = None,
        states: int = 128,
        groups: int = 1,
        conv_width: int = 4,
        norm_eps: float = 1e-5,
        **initial: Any,
    ):
        inner = inner or 2 * width
        head_dim = head_dim or math.gcd(64, inner)
        heads, both = inner // head_dim, 2 * groups * states
        super().__init__(conv_x=(conv_width - 1, inner), conv_bc=(conv_width - 1, both), S=(heads, states, head_dim))
        self.groups, self.norm_eps = groups, norm_eps
        self.declare(w_z=(width, inner), w_x=(width, inner), w_bc=(width, both), w_dt=(width, heads), b_dt=(heads,))
        self.declare(conv_x_w=(conv_width, inner), conv_x_b=(inner,), conv_bc_w=(conv_width, both), conv_bc_b=(both,))
        self.declare(a_log=(heads,), d=(heads,), norm=(inner,), w_o=(inner, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        heads, states, size = self.shapes["S"]
        u, conv_x = self.conv(linear(x, self.w_x), state, mask, "conv_x")
        bc, conv_bc = self.conv(linear(x, self.w_bc), state, mask, "conv_bc")
        b, c = silu(bc).reshape(*x.shape[:2], 2 * self.groups, states).chunk(2, dim=2)
        u = wide(silu(u)).reshape(*x.shape[:2], heads, size)
        dt = softplus(wide_linear(x, self.w_dt) + self.b_dt)
        a = torch.exp(-dt * torch.exp(wide(self.a_log)))[..., None]
        y, S = linear_attention(c, b, dt[..., None] * u, a, state["S"], mask)
        y = (y + self.d[:, None] * u).flatten(2) * silu(linear(x, self.w_z))
        grouped = y.reshape(*x.shape[:2], self.groups, -1)
        y = (rms_norm(grouped, eps=self.norm_eps).reshape(y.shape) * self.norm).to(x.dtype)
        return linear(y, self.w_o), {"conv_x": conv_x, "conv_bc": conv_bc, "S": S}


class GLA(Mixer):
    """S_t = Diag(α_t) S_{t-1} + k_t v_tᵀ, log α_t = log σ(W_2 W_1 x_t + b) / τ, behind a gated norm per head."""

    def __init__(
        self,
        width: int,
        heads: int = 4,
        key_width: int | None = None,
        value_width: int | None = None,
        gate_rank: int = 16,
        temperature: float = 16.0,
        conv_width: int = 0,
        **initial: Any,
    ):
        keys, values = key_width or width // 2, value_width or width
        widths = {"q": keys, "k": keys, "v": values}
        convs = {f"conv_{name}": (conv_width - 1, size) for name, size in widths.items()} if conv_width else {}
        super().__init__(S=(heads, keys // heads, values // heads), **convs)
        self.temperature, self.conv_width = temperature, conv_width
        self.declare(**{f"w_{name}": (width, size) for name, size in widths.items()})
        self.declare(**{f"conv_{name}_w": (conv_width, size) if conv_width else None for name, size in widths.items()})
        self.declare(w_low=(width, gate_rank), w_decay=(gate_rank, keys), b_decay=(keys,))
        self.declare(norm=(values // heads,), w_g=(width, values), w_o=(values, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        after: State = {}

        def heads(x):
            return x.reshape(*x.shape[:2], self.shapes["S"][0], -1)

        def mapped(name):
            y = linear(x, getattr(self, f"w_{name}"))
            if not self.conv_width:
                return heads(y)
            y, after[f"conv_{name}"] = self.conv(y, state, mask, f"conv_{name}")
            return heads(silu(y))

        q, k, v = mapped("q"), mapped("k"), mapped("v")
        gate = linear(linear(x, self.w_low), self.w_decay, self.b_decay)
        a = torch.exp(heads(logsigmoid(wide(gate)) / self.temperature))
        o, after["S"] = linear_attention(q, k, v, a, state["S"], mask, q.shape[-1] ** -0.5)
        o = rms_norm(o.to(x.dtype), self.norm).flatten(2) * silu(linear(x, self.w_g))
        return linear(o, self.w_o), after


class HGRN2(Mixer):
    """S_t = Diag(f_t) S_{t-1} + (1 - f_t) v_tᵀ, f_t bounded below by depth, behind one norm over all heads."""

    def __init__(self, width: int, head_dim: int | None = None, **initial: Any):
        size = head_dim or min(128, width)
        super().__init__(S=(width // size, size, size))
        self.table = width
        self.declare(w_f=(width, width), w_q=(width, width), w_i=(width, width), norm=(width,), w_o=(width, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        f, k = bounded_gate(wide(linear(x, self.w_f)), depth)
        q, v = silu(linear(x, self.w_q)), linear(x, self.w_i)
        q, k, v, f = (z.reshape(*x.shape[:2], *self.shapes["S"][:2]) for z in (q, k, v, f))
        o, S = linear_attention(q, k, v, f, state["S"], mask)
        return linear(rms_norm(o.reshape(x.shape).to(x.dtype), self.norm), self.w_o), {"S": S}


class LightNet(Mixer):
    """S_t = Σ_{j≤t} e^{k_j - z_t} v_jᵀ with z_t = log Σ_{j≤t} e^{k_j} of every key channel, behind a gated norm."""

    def __init__(
        self,
        width: int,
        head_dim: int | None = None,
        gate_rank: int | None = None,
        norm_eps: float = 1e-5,
        **initial: Any,
    ):
        size, rank = head_dim or min(128, width), gate_rank or min(128, width)
        super().__init__(z=(width // size, size), S=(width // size, size, size))
        self.norm_eps = norm_eps
        self.declare(w_q=(width, width), w_k=(width, width), w_v=(width, width), w_o=(width, width), norm=(width,))
        self.declare(w_1=(width, rank), w_2=(rank, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        heads = (*x.shape[:2], *self.shapes["z"])
        q, k, v = (linear(x, w).reshape(heads) for w in (self.w_q, self.w_k, self.w_v))
        q = wide(silu(q)) * heads[-1] ** -0.5

        def step(state, q, k, v):
            z, S = state
            new = torch.sigmoid(k - z)
            S = torch.sigmoid(z - k)[..., None] * S + new[..., None] * v[..., None, :]
            return (torch.logaddexp(z, k), S), torch.einsum("bhk,bhkv->bhv", q, S)

        y, (z, S) = recurrence(step, (state["z"], state["S"]), (q, wide(k), wide(v)), mask)
        y = rms_norm(y.reshape(x.shape).to(x.dtype), self.norm, self.norm_eps)
        return linear(y * silu(linear(linear(x, self.w_1), self.w_2)), self.w_o), {"z": z, "S": S}


class RetNet(Mixer):
    """S_t = γ S_{t-1} + k_t v_tᵀ with a constant γ per head, q and k turned; "lightning" has γ by depth instead."""

    def __init__(
        self,
        width: int,
        heads: int = 4,
        form: str = "retnet",
        key_width: int | None = None,
        value_width: int | None = None,
        rope_base: float = 10000.0,
        **initial: Any,
    ):
        keys, values = key_width or width, value_width or width * (2 if form == "retnet" else 1)
        super().__init__(S=(heads, keys // heads, values // heads), **({"length": ()} if form == "retnet" else {}))
        self.form, self.rope_base = form, rope_base
        self.declare(w_q=(width, keys), w_k=(width, keys), w_v=(width, values), w_g=(width, values))
        self.declare(norm=(values // heads if form == "retnet" else values,), w_o=(values, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        retnet, after = self.form == "retnet", {}
        maps = (linear(x, w) for w in (self.w_q, self.w_k, self.w_v))
        q, k, v = ((y if retnet else silu(y)).reshape(*x.shape[:2], self.shapes["S"][0], -1) for y in maps)
        if retnet:
            position = places(state["length"], mask, x.shape[1])
            q, k = (rotate(y, position, self.rope_base) for y in (q, k * q.shape[-1] ** -0.5))
            after["length"] = position[:, -1] + 1
        decay = state["S"].new_tensor(self._log_decay(depth)).exp()[:, None]
        o, after["S"] = linear_attention(q, k, v, decay, state["S"], mask)
        o, gate = o.to(x.dtype), linear(x, self.w_g)
        o = (
            rms_norm(o, self.norm).flatten(2) * silu(gate)
            if retnet
            else rms_norm(o.flatten(2), self.norm) * gate.sigmoid()
        )
        return linear(o, self.w_o), after

    def _log_decay(self, depth: Depth) -> list[float]:
        heads = self.shapes["S"][0]
        if self.form == "retnet":
            return [math.log1p(-(2.0 ** (-5 - head))) for head in range(heads)]
        left = (depth.total - 1 - depth.place + 1e-5) / (depth.total - 1 + 1e-5) + 1e-5
        return [-(2.0 ** (-8 * (head + 1) / heads)) * left for head in range(heads)]


class DeltaNet(Mixer):
    """S_t = (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ for each head, between convolutions and a norm."""

    def __init__(
        self,
        width: int,
        heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        beta_max: float = 1.0,
        gate: bool = False,
        conv_width: int = 4,
        norm_eps: float = 1e-5,
        **initial: Any,
    ):
        heads = heads or max(1, width // 128)
        key = key_dim or width // heads
        value = value_dim or key
        self.build(width, (heads, heads, key, value), conv_width)
        self.beta_max, self.gate, self.norm_eps = beta_max, gate, norm_eps
        self.declare(w_beta=(width, heads), w_z=(width, heads * value) if gate else None)

    def build(self, width: int, sizes: tuple[int, int, int, int], taps: int) -> None:
        """What the delta rules have in common: branches of q, k (G heads) and v (H heads), a norm, and W_o."""
        groups, heads, key, value = sizes
        branches = {"q": (groups, key), "k": (groups, key), "v": (heads, value)}
        convs = {f"conv_{name}": (taps - 1, count * size) for name, (count, size) in branches.items()}
        Mixer.__init__(self, **convs, S=(heads, key, value))
        self.branches = branches
        for name, (count, size) in self.branches.items():
            self.declare(**{f"w_{name}": (width, count * size), f"conv_{name}_w": (taps, count * size)})
        self.declare(norm=(value,), w_o=(heads * value, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        after: State = {}

        def branch(name):
            y, after[f"conv_{name}"] = self.conv(linear(x, getattr(self, f"w_{name}")), state, mask, f"conv_{name}")
            return silu(y).reshape(*x.shape[:2], *self.branches[name])

        q, k, v = l2_norm(branch("q")), l2_norm(branch("k")), branch("v")
        y, after["S"] = delta_rule(q, k, v, self.beta(x), self.decay(x), state["S"], mask)
        return linear(self.gated(rms_norm(y.to(x.dtype), self.norm, self.norm_eps).flatten(2), x), self.w_o), after

    def beta(self, x: Tensor) -> Tensor:
        """β (B, T, H)."""
        return self.beta_max * torch.sigmoid(wide_linear(x, self.w_beta))

    def decay(self, x: Tensor) -> Tensor | None:
        """α (B, T, H, 1 or K), None for 1."""
        return None

    def gated(self, y: Tensor, x: Tensor) -> Tensor:
        """The normed y behind its gate."""
        return y * silu(linear(x, self.w_z)) if self.gate else y


class GatedDeltaNet(DeltaNet):
    """S_t = α_t (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ, log α = -exp(A_log) softplus(W_dt x + b_dt)."""

    def __init__(
        self,
        width: int,
        heads: int | None = None,
        value_heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        beta_max: float = 1.0,
        conv_width: int = 4,
        norm_eps: float = 1e-5,
        **initial: Any,
    ):
        groups = heads or max(1, 3 * width // 1024)
        heads = value_heads or groups
        key = key_dim or 3 * width // (4 * groups)
        value = value_dim or 2 * key
        self.build(width, (groups, heads, key, value), conv_width)
        self.beta_max, self.gate, self.norm_eps = beta_max, True, norm_eps
        self.declare(w_beta=(width, heads), w_dt=(width, heads), b_dt=(heads,), a_log=(heads,))
        self.declare(w_z=(width, heads * value))

    def decay(self, x: Tensor) -> Tensor:
        """See DeltaNet."""
        dt = softplus(wide_linear(x, self.w_dt) + self.b_dt)
        return torch.exp(-torch.exp(wide(self.a_log)) * dt)[..., None]


class KDA(DeltaNet):
    """S_t = (I - β_t k_t k_tᵀ) Diag(α_t) S_{t-1} + β_t k_t v_tᵀ, α of every key channel; W_dt and W_z of low rank."""

    def __init__(
        self,
        width: int,
        heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        rank: int | None = None,
        lower_bound: float | None = None,
        conv_width: int = 4,
        norm_eps: float = 1e-5,
        **initial: Any,
    ):
        heads = heads or max(1, width // 128)
        key = key_dim or width // heads
        value = value_dim or key
        self.build(width, (heads, heads, key, value), conv_width)
        self.beta_max, self.norm_eps, self.lower_bound = 1.0, norm_eps, lower_bound
        self.rank = value if rank is None else rank
        self.declare(w_beta=(width, heads), b_dt=(heads * key,), a_log=(heads,))
        for name, size in (("w_dt", heads * key), ("w_z", heads * value)):
            low = {f"{name}_a": (width, self.rank), f"{name}_b": (self.rank, size)}
            self.declare(**(low if self.rank else {name: (width, size)}))

    def decay(self, x: Tensor) -> Tensor:
        """See DeltaNet."""
        dt = (wide_linear(*self._low(x, "w_dt")) + self.b_dt).reshape(*x.shape[:2], *self.branches["k"])
        rates = torch.exp(wide(self.a_log))[:, None]
        if self.lower_bound is None:
            return torch.exp(-rates * softplus(dt))
        return torch.exp(self.lower_bound * torch.sigmoid(rates * dt))

    def gated(self, y: Tensor, x: Tensor) -> Tensor:
        """See DeltaNet."""
        return y * torch.sigmoid(linear(*self._low(x, "w_z")))

    def _low(self, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """The two factors of x W_a W_b, or of x W."""
        return (
            (linear(x, getattr(self, f"{name}_a")), getattr(self, f"{name}_b"))
            if self.rank
            else (x, getattr(self, name))
        )


class MLSTM(Mixer):
    """The mLSTM of xLSTM-7B: maps of x, capped gates, `mlstm`, and a gated norm per head."""

    def __init__(
        self,
        width: int,
        heads: int = 4,
        key_dim: int | None = None,
        value_dim: int | None = None,
        gate_cap: float | None = 15.0,
        norm_eps: float = 1e-6,
        eps: float = 1e-6,
        **initial: Any,
    ):
        key, value = key_dim or width // (2 * heads), value_dim or width // heads
        super().__init__(S=(heads, key, value), n=(heads, key), m=(heads,))
        self.gate_cap, self.norm_eps, self.eps = gate_cap, norm_eps, eps
        self.declare(w_q=(width, heads * key), w_k=(width, heads * key), w_v=(width, heads * value))
        self.declare(w_i=(width, heads), b_i=(heads,), w_f=(width, heads), b_f=(heads,))
        self.declare(w_z=(width, heads * value), norm=(heads * value,), w_o=(heads * value, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        heads, _, value = self.shapes["S"]
        q, k, v = (linear(x, w).reshape(*x.shape[:2], heads, -1) for w in (self.w_q, self.w_k, self.w_v))
        i, f = self._capped(x, self.w_i, self.b_i), self._capped(x, self.w_f, self.b_f)
        h, after = mlstm(q, k, v, i, f, state, mask, self.eps)
        h = layer_norm(h.to(x.dtype), self.norm.reshape(heads, value), eps=self.norm_eps)
        return linear(h.flatten(2) * torch.sigmoid(linear(x, self.w_z)), self.w_o), after

    def _capped(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        gate, c = wide_linear(x, w) + b, self.gate_cap
        return gate if c is None else c * torch.tanh(gate / c)


class MLSTMBlock(Mixer):
    """The mLSTM in its first block: an expansion, a convolution, block-diagonal q, k and v, a gate; no MLP follows."""

    def __init__(
        self,
        width: int,
        inner: int | None = None,
        heads: int = 4,
        block: int = 4,
        conv_width: int = 4,
        norm_eps: float = 1e-5,
        eps: float = 1e-6,
        **initial: Any,
    ):
        inner = inner or 2 * width
        size = inner // heads
        super().__init__(conv=(conv_width - 1, inner), S=(heads, size, size), n=(heads, size), m=(heads,))
        self.norm_eps, self.eps = norm_eps, eps
        self.declare(w_z=(width, inner), w_x=(width, inner), conv_w=(conv_width, inner), conv_b=(inner,))
        self.declare(**{f"w_{name}": (inner // block, block, block) for name in "qkv"})
        self.declare(w_i=(3, inner, heads), b_i=(heads,), w_f=(3, inner, heads), b_f=(heads,))
        self.declare(norm=(inner,), skip=(inner,), w_o=(inner, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        heads = self.shapes["m"][0]
        u, z = linear(x, self.w_x), linear(x, self.w_z)
        c, conv = self.conv(u, state, mask)
        c = silu(c)
        qkv = [head_linear(y, w).to(x.dtype) for y, w in ((c, self.w_q), (c, self.w_k), (u, self.w_v))]
        i, f = (sum((wide_linear(y, part) for y, part in zip(qkv, w, strict=True)), b) for w, b in self._gates())
        q, k, v = (y.reshape(*x.shape[:2], heads, -1) for y in qkv)
        h, after = mlstm(q, k, v, i, f, state, mask, self.eps)
        y = layer_norm(h.to(x.dtype), self.norm.reshape(heads, -1), eps=self.norm_eps).flatten(2)
        return linear((y + self.skip.to(x.dtype) * c) * silu(z), self.w_o), {"conv": conv, **after}

    def _gates(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.w_i, self.b_i), (self.w_f, self.b_f)]


class RWKV6(Mixer):
    """S_t = Diag(w_t) S_{t-1} + k_t v_tᵀ, read with a bonus; the token shift is mixed by low-rank maps of x."""

    def __init__(
        self,
        width: int,
        head_dim: int | None = None,
        mix_rank: int | None = None,
        decay_rank: int | None = None,
        **initial: Any,
    ):
        size = head_dim or min(64, width)
        mix, low = mix_rank or (64 if width >= 4096 else 32), decay_rank or (128 if width >= 4096 else 64)
        super().__init__(shift=(1, width), S=(width // size, size, size))
        self.declare(**{f"mu_{name}": (width,) for name in "xwkvrg"}, mix_in=(width, 5 * mix), mix_out=(5, mix, width))
        self.declare(**{f"w_{name}": (width, width) for name in "rkvgo"}, bonus=(width // size, size))
        self.declare(decay_in=(width, low), decay_out=(low, width), decay_bias=(width,))
        self.declare(norm=(width,), norm_bias=(width,))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        before, shift = token_shift(x, state["shift"], mask)
        z = self._mixed(x, before - x)
        r, k, v, g = (linear(z[name], getattr(self, f"w_{name}")) for name in "rkvg")
        moved = torch.tanh(wide_linear(z["w"], self.decay_in)) @ wide(self.decay_out)
        w = torch.exp(-torch.exp(moved + self.decay_bias))
        heads = (*x.shape[:2], *self.shapes["S"][:2])
        r, k, v, w = (y.reshape(heads) for y in (r, k, v, w))
        y, S = linear_attention(r, k, v, w, state["S"], mask, bonus=wide(self.bonus))
        y = layer_norm(y, self.norm.reshape(heads[2:]), self.norm_bias.reshape(heads[2:]), 64e-5)
        return linear((y.reshape(x.shape) * silu(g)).to(x.dtype), self.w_o), {"shift": shift, "S": S}

    def _mixed(self, x: Tensor, change: Tensor) -> dict[str, Tensor]:
        """z_t = x_t + (μ_z + tanh((x_t + μ_x change_t) A_z) B_z) change_t for z of w, k, v, r, g."""
        hidden = torch.tanh(wide_linear((x + self.mu_x * change).to(x.dtype), self.mix_in)).chunk(5, dim=-1)
        rows = zip("wkvrg", hidden, self.mix_out, strict=True)
        return {n: (x + (getattr(self, f"mu_{n}") + h @ wide(b)) * change).to(x.dtype) for n, h, b in rows}


class RWKV7(Mixer):
    """S_t = (Diag(w_t) - (κ_t η_t) κ_tᵀ) S_{t-1} + k_t v_tᵀ; the first layer's v is mixed into that of the others."""

    def __init__(
        self,
        width: int,
        head_dim: int | None = None,
        decay_rank: int | None = None,
        eta_rank: int | None = None,
        value_rank: int | None = None,
        gate_rank: int | None = None,
        **initial: Any,
    ):
        size = head_dim or min(64, width)
        super().__init__(shift=(1, width), S=(width // size, size, size))
        self.declare(**{f"mu_{name}": (width,) for name in ("r", "w", "k", "v", "eta", "g")})
        self.declare(**{f"w_{name}": (width, width) for name in "rkvo"})
        ranks = (("decay", decay_rank, 2.5), ("eta", eta_rank, 2.5), ("value", value_rank, 1.7), ("gate", gate_rank, 5))
        for name, given, times in ranks:
            rank = given or max(32, 32 * round(times * math.sqrt(width) / 32))
            self.declare(**{f"{name}_in": (width, rank), f"{name}_out": (rank, width)})
        self.declare(decay_bias=(width,), eta_bias=(width,), value_bias=(width,), xi=(width,), alpha=(width,))
        self.declare(norm=(width,), norm_bias=(width,), rho=(width // size, size))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        before, shift = token_shift(x, state["shift"], mask)

        def mixed(name):
            return (x + getattr(self, f"mu_{name}") * (before - x)).to(x.dtype)

        r, k, v = linear(mixed("r"), self.w_r), linear(mixed("k"), self.w_k), linear(mixed("v"), self.w_v)
        w = torch.exp(-math.exp(-0.5) * torch.sigmoid(self._low("decay", mixed("w"), torch.tanh) + self.decay_bias))
        eta = torch.sigmoid(self._low("eta", mixed("eta")) + self.eta_bias)
        if depth.index == 0:
            depth.first = v
        first = v if depth.first is None else depth.first
        v = (v + torch.sigmoid(self._low("value", mixed("v")) + self.value_bias) * (first - v)).to(x.dtype)
        kappa, k = k * self.xi, k * (1 + self.alpha * (eta - 1))
        r, w, k, v, kappa, eta = (wide(y).reshape(*x.shape[:2], *self.rho.shape) for y in (r, w, k, v, kappa, eta))
        kappa = unit_norm(kappa)

        def step(state, r, w, k, v, kappa, eta):
            seen = torch.einsum("bhk,bhkv->bhv", kappa, state[0])
            S = w[..., None] * state[0] - (kappa * eta)[..., None] * seen[..., None, :] + k[..., None] * v[..., None, :]
            return (S,), torch.einsum("bhk,bhkv->bhv", r, S)

        y, (S,) = recurrence(step, (state["S"],), (r, w, k, v, kappa, eta), mask)
        y = layer_norm(y, self.norm.reshape(self.rho.shape), self.norm_bias.reshape(self.rho.shape), 64e-5)
        y = y + (self.rho * r * k).sum(-1, keepdim=True) * v
        y = (y.reshape(x.shape) * self._low("gate", mixed("g"), torch.sigmoid)).to(x.dtype)
        return linear(y, self.w_o), {"shift": shift, "S": S}

    def _low(self, name: str, z: Tensor, f: Callable[[Tensor], Tensor] = lambda h: h) -> Tensor:
        """f(z A) B."""
        return f(wide_linear(z, getattr(self, f"{name}_in"))) @ wide(getattr(self, f"{name}_out"))


# ---- mixers without a linear recurrence


class ChannelMix(Mixer):
    """y_t = W_v max(W_k k_t, 0)², gated by σ(W_r r_t) before version 7, k and r mixed from x_t and the token before."""

    def __init__(self, width: int, version: int = 7, hidden: int | None = None, **initial: Any):
        hidden = hidden or (7 * width // 64 * 32 if version == 6 else 4 * width)
        super().__init__(shift=(1, width))
        self.version = version
        self.declare(mu_k=(width,), w_k=(width, hidden), w_v=(hidden, width))
        if version < 7:
            self.declare(mu_r=(width,), w_r=(width, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        before, shift = token_shift(x, state["shift"], mask)

        def mixed(mu):
            return (mu * x + (1 - mu) * before if self.version == 4 else x + mu * (before - x)).to(x.dtype)

        y = linear(relu(linear(mixed(self.mu_k), self.w_k)).square(), self.w_v)
        if self.version < 7:
            y = torch.sigmoid(linear(mixed(self.mu_r), self.w_r)) * y
        return y, {"shift": shift}


class ShortConv(Mixer):
    """y = W_o (c · conv(b · x)), b, c and x linear in the input."""

    def __init__(self, width: int, conv_width: int = 3, **initial: Any):
        super().__init__(conv=(conv_width - 1, width))
        self.declare(**{f"w_{name}": (width, width) for name in "bcxo"}, conv_w=(conv_width, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        y, conv = self.conv(linear(x, self.w_b) * linear(x, self.w_x), state, mask)
        return linear(linear(x, self.w_c) * y, self.w_o), {"conv": conv}


def softplus_weights(scores: Tensor, seen: Tensor, width: int, power: float) -> Tensor:
    """A = softplus(log d · log N · scores) over the N keys that a query sees, divided by its sum. Unless the power is
    0, then ReLU(A N - O)^power, divided by its sum and ε^power, with ε = 1e-3 and O = 1, but 0 where N <= 3.
    """
    count = seen.sum(-1, keepdim=True).to(scores.dtype)
    scale = math.log(width) * count.clamp(min=1).log()
    weight = softplus(torch.where(seen, scale * scores, -math.inf))
    weight = weight / torch.where(count > 0, weight.sum(-1, keepdim=True), 1)
    if not power:
        return weight
    above = relu(weight * count - (count > 3).to(count.dtype))
    top = above.amax(-1, keepdim=True).clamp(min=1e-3).detach()  # cancels; powers would overflow
    sharp = (above / top) ** power
    return sharp / (sharp.sum(-1, keepdim=True) + (1e-3 / top) ** power)


class Attention(Mixer):
    """Attention with rotary positions and grouped queries, over the last `window` or `context` tokens.

    The weights are a softmax, or `softplus_weights` of unit queries and keys. The state is a ring: the token at
    position p is in slot p mod S, -1 where empty. Where `window` is None, the outputs at position `context` and after
    are NaN: the keys they should see are gone.
    """

    def __init__(
        self,
        width: int,
        heads: int = 4,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        window: int | None = None,
        context: int = 2048,
        rope_base: float = 10000.0,
        rope_fraction: float = 1.0,
        out_bias: bool = False,
        qk_norm: bool = False,
        norm_eps: float = 1e-6,
        qk_norm_whole: bool = False,
        out_gate: bool = False,
        weights: str = "softmax",
        power: float = 15.0,
        **initial: Any,
    ):
        groups, size, slots = kv_heads or heads, head_dim or width // heads, window or context
        super().__init__(k=(slots, groups, size), v=(slots, groups, size), position=(slots,), length=())
        self.slots, self.window, self.qk_norm, self.norm_eps = slots, window, qk_norm, norm_eps
        self.rope_base, self.turned, self.out_gate = rope_base, round(rope_fraction * size), out_gate
        self.weights, self.power = weights, power
        self.declare(w_q=(width, heads * size), w_k=(width, groups * size), w_v=(width, groups * size))
        self.declare(w_o=(heads * size, width), b_o=(width,) if out_bias else None)
        self.declare(w_g=(width, heads * size) if out_gate else None)
        if qk_norm:
            whole = (heads * size, groups * size) if qk_norm_whole else (size, size)
            self.declare(norm_q=whole[:1], norm_k=whole[1:])

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        place = places(state["length"], mask, x.shape[1])
        q, k, v = (linear(x, w).reshape(*x.shape[:2], -1, self.shapes["k"][2]) for w in (self.w_q, self.w_k, self.w_v))
        if self.qk_norm:
            q, k = self._normed(q, self.norm_q), self._normed(k, self.norm_k)
        if self.weights == "softplus":
            q, k = unit_norm(q), unit_norm(k)
        q, k = rotate(q, place, self.rope_base, self.turned), rotate(k, place, self.rope_base, self.turned)
        valid = place if mask is None else torch.where(mask, place, -1)
        keys, values = (torch.cat([state[n].to(y.dtype), y], dim=1) for n, y in (("k", k), ("v", v)))
        positions = torch.cat([state["position"], valid], dim=1)
        y = self._attend(q, keys, values, place, positions)
        y = y * torch.sigmoid(linear(x, self.w_g)) if self.out_gate else y
        y = linear(y, self.w_o, getattr(self, "b_o", None))
        if self.window is None:
            y = torch.where((valid >= self.slots)[..., None], torch.nan, y)
        return y, self._stored(state, k, v, valid, place[:, -1] + 1)

    def _normed(self, x: Tensor, gain: Tensor) -> Tensor:
        """Over each head, or over all where the gain is that wide."""
        return rms_norm(x.reshape(*x.shape[:2], -1, gain.shape[0]), gain, self.norm_eps).reshape(x.shape)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, place: Tensor, key_place: Tensor) -> Tensor:
        """Σ_s A_s v_s over the keys of the last `slots` tokens, A by the scores q k: (B, T, heads K) in v's dtype."""
        distance = place[:, :, None] - key_place[:, None]
        seen = (distance >= 0) & (distance < self.slots) & (key_place >= 0)[:, None]
        grouped = wide(q).reshape(*q.shape[:2], k.shape[2], -1, q.shape[3])
        scores = torch.einsum("btghk,bsgk->bghts", grouped, wide(k))
        if self.weights == "softplus":
            weight = softplus_weights(scores, seen[:, None, None], q.shape[3], self.power)
        else:
            scores = scores * q.shape[3] ** -0.5
            weight = softmax(scores.masked_fill(~seen[:, None, None], torch.finfo(scores.dtype).min), dim=-1)
        y = torch.einsum("bghts,bsgk->btghk", wide(weight.to(v.dtype)), wide(v))
        return y.to(v.dtype).reshape(*q.shape[:2], -1)

    def _stored(self, state: State, k: Tensor, v: Tensor, position: Tensor, length: Tensor) -> State:
        """The last valid tokens, each in its slot; the others go to a slot that is dropped."""
        kept = (position >= 0) & (length[:, None] - position <= self.slots)
        slot = torch.where(kept, position % self.slots, self.slots)

        def ring(old, new):
            room = torch.cat([old, old[:, :1]], dim=1)
            return room.scatter(1, like(slot, new).expand_as(new), new.to(old.dtype))[:, : self.slots]

        after = {"k": ring(state["k"], k), "v": ring(state["v"], v), "position": ring(state["position"], position)}
        return after | {"length": length}


class ParaRNN(Mixer):
    """x, z = W_x x, W_z x; h = the cell's states over SiLU(conv(x)); y = W_o (RMSNorm(h) SiLU(z))."""

    def __init__(
        self,
        width: int,
        cell: str = "para_gru",
        recurrent: str = "diagonal",
        inner: int | None = None,
        heads: int = 1,
        conv_width: int = 4,
        **training: Any,
    ):
        inner = inner or width
        states = {f"h_{name}": (inner,) for name in CELLS[cell].states}
        super().__init__(conv=(conv_width - 1, inner), **states)
        self.cell = CELLS[cell](inner, heads, recurrent)
        self.declare(w_z=(width, inner), w_x=(width, inner), conv_w=(conv_width, inner), conv_b=(inner,))
        self.declare(norm=(inner,), w_o=(inner, width))

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        branch, conv = self.conv(linear(x, self.w_x), state, mask)
        u = self.cell.inputs(silu(branch))
        names = [name for name in state if name != "conv"]

        def step(h, *u):
            h = self.cell.step(h, u)
            return h, torch.stack(h, dim=1)

        h, last = recurrence(step, tuple(state[name] for name in names), u, mask)
        y = self.cell.output(h.unbind(dim=2), u).to(x.dtype)
        y = rms_norm(y, self.norm) * silu(linear(x, self.w_z))
        return linear(y, self.w_o), {"conv": conv, **dict(zip(names, last, strict=True))}


MIXERS: dict[str, Callable[..., Mixer]] = {
    "aaren": Aaren,
    "attention": Attention,
    "block_lrnn": BlockLRNN,
    "channel_mix": ChannelMix,
    "delta_net": DeltaNet,
    "gated_delta_net": GatedDeltaNet,
    "gla": GLA,
    "hgrn": HGRN,
    "hgrn2": HGRN2,
    "kda": KDA,
    "lightnet": LightNet,
    "longhorn": Longhorn,
    "lru": LRU,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "min_gru": MinGRU,
    "min_lstm": MinLSTM,
    "mlstm": MLSTM,
    "mlstm_block": MLSTMBlock,
    "para_rnn": ParaRNN,
    "retnet": RetNet,
    "rg_lru": RGLRU,
    "rwkv4": RWKV4,
    "rwkv6": RWKV6,
    "rwkv7": RWKV7,
    "s4d": S4D,
    "s5": S5,
    "short_conv": ShortConv,
}


# ---- cells: h_t = step(h_{t-1}, u_t), u = inputs(x), elementwise but for recurrent maps


class Cell(Part):
    """One nonlinear step. A state h is a tuple of (B, width), one for each name in `states`, zeros before a document.

    Parameters: input maps w and biases b; recurrent maps r, block-diagonal over the heads or, "diagonal", vectors;
    further maps m of the same shape, and biases b_r; `vectors` over the channels by name, `scalars`, and `outputs`,
    maps that no state goes back through.
    """

    states: tuple[str, ...] = ("h",)
    gates = 1
    biases: int | None = None  # as many as gates
    recurrent_maps = 0
    memory_maps = 0
    recurrent_biases = 0
    vectors: dict[str, int] = {}  # noqa: RUF012
    scalars: dict[str, tuple[int, ...]] = {}  # noqa: RUF012
    outputs: dict[str, tuple[int, ...]] = {}  # noqa: RUF012

    def __init__(self, width: int, heads: int, recurrent: str):
        super().__init__()
        block = (heads, width // heads, width // heads)
        form = (width,) if recurrent == "diagonal" else block
        self.diagonal, self.heads = recurrent == "diagonal", heads
        counts = {"r": self.recurrent_maps, "m": self.memory_maps}
        self.declare(w=(self.gates, *block), b=(self.gates if self.biases is None else self.biases, width))
        self.declare(**{name: (count, *form) if count else None for name, count in counts.items()})
        self.declare(b_r=(self.recurrent_biases, width) if self.recurrent_biases else None)
        self.declare(**{name: (count, width) for name, count in self.vectors.items()}, **self.scalars)
        self.declare(**{name: (*count, *block) for name, count in self.outputs.items()})

    def inputs(self, x: Tensor) -> States:
        """x W_v + b_v for every gate v."""
        return tuple(head_linear(x, w) + b for w, b in zip(self.w, self.b, strict=True))

    def step(self, h: States, u: States) -> States:
        """The next state."""
        raise NotImplementedError

    def output(self, h: States, u: States) -> Tensor:
        """What the layer sees of the states (B, T, width): the last one."""
        return h[-1]

    def recur(self, r: Tensor, h: Tensor) -> Tensor:
        """h R."""
        return h * r if self.diagonal else head_linear(h, r)

    def recurred(self, h: Tensor, u: States) -> list[Tensor]:
        """u_v + h R_v for every gate v."""
        return [x + self.recur(r, h) for x, r in zip(u, self.r, strict=True)]


def lstm(c: Tensor, i: Tensor, f: Tensor, g: Tensor, o: Tensor) -> States:
    """c_t = σ(f) c_{t-1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t)."""
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)


def mix(keep: Tensor | float, old: Tensor, new: Tensor) -> Tensor:
    """keep · old + (1 - keep) · new."""
    return keep * old + (1 - keep) * new


class ParaGRUCell(Cell):
    """z weights the candidate; recurrent weights a are vectors."""

    gates, vectors = 3, {"a": 3}

    def step(self, h, u):
        (h,), (a_z, a_r, a_c), (u_z, u_r, u_c) = h, self.a, u
        z, r = torch.sigmoid(a_z * h + u_z), torch.sigmoid(a_r * h + u_r)
        return ((1 - z) * h + z * torch.tanh(a_c * h * r + u_c),)


class ParaLSTMCell(Cell):
    """The input gate is 1 - f; peepholes p of the old c into f, of the new one into o."""

    gates, vectors, states = 3, {"a": 3, "p": 2}, ("c", "h")

    def step(self, h, u):
        (c, h), (a_f, a_z, a_o), (p_f, p_o), (u_f, u_z, u_o) = h, self.a, self.p, u
        f = torch.sigmoid(a_f * h + p_f * c + u_f)
        c = mix(f, c, torch.tanh(a_z * h + u_z))
        return c, torch.sigmoid(a_o * h + p_o * c + u_o) * torch.tanh(c)


class GRUCell(Cell):
    """torch.nn.GRU's: r behind the matrix, z weights the old state."""

    gates, recurrent_maps, recurrent_biases = 3, 3, 1

    def step(self, h, u):
        (h,), (r_r, r_z, r_n), (u_r, u_z, u_n) = h, self.r, u
        r, z = torch.sigmoid(u_r + self.recur(r_r, h)), torch.sigmoid(u_z + self.recur(r_z, h))
        return (mix(z, h, torch.tanh(u_n + r * (self.recur(r_n, h) + self.b_r[0]))),)


class LSTMCell(Cell):
    """torch.nn.LSTM's, gates i, f, g, o."""

    gates, recurrent_maps, states = 4, 4, ("c", "h")

    def step(self, h, u):
        return lstm(h[0], *self.recurred(h[1], u))


class ElmanCell(Cell):
    """h_t = tanh(u + h R)."""

    recurrent_maps = 1

    def step(self, h, u):
        return (torch.tanh(u[0] + self.recur(self.r[0], h[0])),)


class LEMCell(Cell):
    """Two states with rates of their own; y_t is made from z_t."""

    gates, recurrent_maps, states = 4, 4, ("z", "y")

    def rates(self, y, u):
        """Δ' of y, Δ of z, and what z moves to."""
        bar, dt, z = (x + self.recur(r, y) for x, r in zip(u[:3], self.r[:3], strict=True))
        return torch.sigmoid(bar), torch.sigmoid(dt), torch.tanh(z)

    def step(self, h, u):
        z, y = h
        rate_y, rate_z, c = self.rates(y, u)
        z = (1 - rate_z) * z + rate_z * c
        return z, (1 - rate_y) * y + rate_y * torch.tanh(u[3] + self.recur(self.r[3], z))


class StaleLEMCell(LEMCell):
    """y_t is made from z_{t-1}."""

    def step(self, h, u):
        z, y = h
        rate_y, rate_z, c = self.rates(y, u)
        y = (1 - rate_y) * y + rate_y * torch.tanh(u[3] + self.recur(self.r[3], z))
        return (1 - rate_z) * z + rate_z * c, y


class MinGRUCell(Cell):
    """Gates of x alone."""

    gates = 2

    def inputs(self, x):
        z, h = super().inputs(x)
        return torch.sigmoid(-z), torch.sigmoid(z) * h

    def step(self, h, u):
        return (u[0] * h[0] + u[1],)


class MinLSTMCell(MinGRUCell):
    """Gates f, i of x alone, by their shares."""

    gates = 3

    def inputs(self, x):
        f, i, h = Cell.inputs(self, x)
        delta = logsigmoid(i) - logsigmoid(f)
        return torch.sigmoid(-delta), torch.sigmoid(delta) * h


class AntisymmetricCell(Cell):
    """h_t = h_{t-1} + tanh(u + h (R - Rᵀ))."""

    recurrent_maps = 1

    def turned(self, h):
        """h (R - Rᵀ): nothing in the diagonal form."""
        r = self.r[0]
        return self.recur(r - (r if self.diagonal else r.transpose(-1, -2)), h)

    def step(self, h, u):
        return (h[0] + torch.tanh(u[0] + self.turned(h[0])),)


class GatedAntisymmetricCell(AntisymmetricCell):
    """The same behind a gate that shares its map."""

    gates = 2

    def step(self, h, u):
        (h,), (u_z, u_h) = h, u
        q = self.turned(h)
        return (h + torch.sigmoid(u_z + q) * torch.tanh(u_h + q),)


class ATRCell(Cell):
    """The twin gates are σ of a sum and of a difference."""

    recurrent_maps, recurrent_biases = 1, 1

    def step(self, h, u):
        (h,), (p,) = h, u
        q = self.recur(self.r[0], h) + self.b_r[0]
        return (torch.sigmoid(p + q) * p + torch.sigmoid(p - q) * h,)


class BlockLSTMCell(Cell):
    """An LSTM, gates f, i, z, o, whose maps see all heads."""

    gates, recurrent_maps, states = 4, 4, ("c", "h")

    def __init__(self, width, heads, recurrent):
        super().__init__(width, 1, recurrent)

    def step(self, h, u):
        f, i, z, o = self.recurred(h[1], u)
        return lstm(h[0], i, f, z, o)


class NBRCell(Cell):
    """Bistable: the candidate sees its own past times 1 + tanh."""

    gates, recurrent_maps = 3, 2

    def step(self, h, u):
        (h,), (r_a, r_c), (u_a, u_c, u_h) = h, self.r, u
        a, c = 1 + torch.tanh(u_a + self.recur(r_a, h)), torch.sigmoid(u_c + self.recur(r_c, h))
        return (mix(c, h, torch.tanh(u_h + a * h)),)


class CFNCell(Cell):
    """Chaos-free: without inputs all decays."""

    gates, recurrent_maps = 3, 2

    def step(self, h, u):
        (h,), (r_theta, r_eta), (u_theta, u_eta, u_c) = h, self.r, u
        theta, eta = torch.sigmoid(u_theta + self.recur(r_theta, h)), torch.sigmoid(u_eta + self.recur(r_eta, h))
        return (theta * torch.tanh(h) + eta * torch.tanh(u_c),)


class CoRNNCell(Cell):
    """Damped oscillators, dt = 0.1, stiffness and damping 1."""

    recurrent_maps, states = 2, ("z", "y")

    def step(self, h, u):
        (z, y), (r_y, r_z) = h, self.r
        z = z + 0.1 * (torch.tanh(u[0] + self.recur(r_y, y) + self.recur(r_z, z)) - y - z)
        return z, y + 0.1 * z


class ELSTMCell(Cell):
    """Elementwise in c; the output gate has a matrix."""

    gates, vectors, outputs, states = 3, {"a": 2}, {"o": ()}, ("c",)

    def step(self, h, u):
        (c,), (a_f, a_z), (u_f, u_z, _) = h, self.a, u
        return (mix(torch.sigmoid(u_f + a_f * c), c, torch.tanh(u_z + a_z * c)),)

    def output(self, h, u):
        return torch.sigmoid(u[2] + head_linear(h[0], self.o)) * h[0]


class FastRNNCell(Cell):
    """σ(α) tanh + σ(β) h."""

    recurrent_maps, scalars = 1, {"alpha": (1,), "beta": (1,)}

    def step(self, h, u):
        n = torch.tanh(u[0] + self.recur(self.r[0], h[0]))
        return (torch.sigmoid(self.alpha) * n + torch.sigmoid(self.beta) * h[0],)


class FastGRNNCell(Cell):
    """Gate and candidate share their maps."""

    biases, recurrent_maps, scalars = 2, 1, {"zeta": (1,), "nu": (1,)}

    def inputs(self, x):
        p = head_linear(x, self.w[0])
        return p + self.b[0], p + self.b[1]

    def step(self, h, u):
        q = self.recur(self.r[0], h[0])
        z, n = torch.sigmoid(u[0] + q), torch.tanh(u[1] + q)
        return ((torch.sigmoid(self.zeta) * (1 - z) + torch.sigmoid(self.nu)) * n + z * h[0],)


class IndRNNCell(Cell):
    """h_t = relu(u + a h)."""

    vectors = {"a": 1}  # noqa: RUF012

    def step(self, h, u):
        return (relu(u[0] + self.a[0] * h[0]),)


class IntersectionCell(Cell):
    """Highways in depth, from x to y, and in time."""

    gates, recurrent_maps, states = 4, 4, ("h", "y")

    def inputs(self, x):
        u = super().inputs(x)
        return *u, x.to(u[0].dtype)

    def step(self, h, u):
        y, n, g_y, g_h = self.recurred(h[0], u[:4])
        return mix(torch.sigmoid(g_h), h[0], torch.tanh(n)), mix(torch.sigmoid(g_y), u[4], relu(y))


class JANETCell(Cell):
    """The forget gate alone, and a smaller one for the input."""

    gates, recurrent_maps, scalars = 2, 2, {"beta": ()}

    def step(self, h, u):
        s, c = self.recurred(h[0], u)
        return (torch.sigmoid(s) * h[0] + (1 - torch.sigmoid(s - self.beta)) * torch.tanh(c),)


class LightRUCell(Cell):
    """The candidate sees x alone."""

    gates, recurrent_maps = 2, 1

    def inputs(self, x):
        n, f = super().inputs(x)
        return torch.tanh(n), f

    def step(self, h, u):
        return (mix(torch.sigmoid(u[1] + self.recur(self.r[0], h[0])), u[0], h[0]),)


class LiGRUCell(Cell):
    """No reset gate, and ReLU."""

    gates, recurrent_maps = 2, 2

    def step(self, h, u):
        z, n = self.recurred(h[0], u)
        return (mix(torch.sigmoid(z), h[0], relu(n)),)


class MCLSTMCell(Cell):
    """Gates f, i, o, m, n see v, the memory behind m."""

    gates, recurrent_maps, states = 5, 5, ("v", "c", "h")

    def step(self, h, u):
        f, i, o, m, n = self.recurred(h[0], u)
        c, h_after = lstm(h[1], i, f, n, o)
        return torch.sigmoid(m) * torch.tanh(c), c, h_after


class MGUCell(Cell):
    """One gate, before the matrix."""

    gates, recurrent_maps = 2, 2

    def step(self, h, u):
        (h,), (r_f, r_h) = h, self.r
        f = torch.sigmoid(u[0] + self.recur(r_f, h))
        return (mix(f, torch.tanh(u[1] + self.recur(r_h, f * h)), h),)


class MinimalRNNCell(Cell):
    """The candidate z sees x alone, the gate z and h."""

    recurrent_maps, memory_maps, recurrent_biases = 1, 1, 1

    def inputs(self, x):
        z = torch.tanh(super().inputs(x)[0])
        return z, self.recur(self.m[0], z) + self.b_r[0]

    def step(self, h, u):
        return (mix(torch.sigmoid(u[1] + self.recur(self.r[0], h[0])), h[0], u[0]),)


class MiRU1Cell(Cell):
    """Half of the past is kept."""

    gates, recurrent_maps = 2, 2

    def step(self, h, u):
        (h,), (r_r, r_h) = h, self.r
        r = torch.sigmoid(u[0] + self.recur(r_r, h))
        return (mix(0.5, h, torch.tanh(u[1] + self.recur(r_h, r * h))),)


class MiRU2Cell(Cell):
    """The same with a constant reset gate."""

    recurrent_maps = 1

    def step(self, h, u):
        return (mix(0.5, h[0], torch.tanh(u[0] + self.recur(self.r[0], 0.5 * h[0]))),)


class MultiplicativeLSTMCell(Cell):
    """Gates i, f, g, o see m = u_m (h R + b_r)."""

    gates, recurrent_maps, recurrent_biases, memory_maps, states = 5, 1, 1, 4, ("c", "h")

    def step(self, h, u):
        m = u[0] * (self.recur(self.r[0], h[1]) + self.b_r[0])
        return lstm(h[0], *(x + self.recur(r, m) for x, r in zip(u[1:], self.m, strict=True)))


class MUT1Cell(Cell):
    """z sees x alone."""

    gates, recurrent_maps, recurrent_biases = 3, 2, 1

    def inputs(self, x):
        z, r, n = super().inputs(x)
        return torch.sigmoid(z), r, torch.tanh(n) + self.b_r[0]

    def step(self, h, u):
        (h,), (r_r, r_n), (z, u_r, u_n) = h, self.r, u
        r = torch.sigmoid(u_r + self.recur(r_r, h))
        return (mix(z, torch.tanh(u_n + self.recur(r_n, r * h)), h),)


class MUT2Cell(Cell):
    """z weights the candidate; r is before the matrix."""

    gates, recurrent_maps = 3, 3

    def seen(self, h):
        """What z sees."""
        return h

    def step(self, h, u):
        (h,), (r_z, r_r, r_n), (u_z, u_r, u_n) = h, self.r, u
        z, r = torch.sigmoid(u_z + self.recur(r_z, self.seen(h))), torch.sigmoid(u_r + self.recur(r_r, h))
        return (mix(z, torch.tanh(u_n + self.recur(r_n, r * h)), h),)


class MUT3Cell(MUT2Cell):
    """z sees tanh(h)."""

    def seen(self, h):
        return torch.tanh(h)


class NASCell(Cell):
    """Found by search."""

    gates, recurrent_maps, states = 8, 8, ("c", "h")

    def step(self, h, u):
        p = self.recurred(h[1], u)
        a, b = torch.tanh(torch.sigmoid(p[0]) * relu(p[1])), torch.tanh(torch.sigmoid(p[2]) + relu(p[3]))
        d, e = torch.tanh(torch.tanh(p[4]) * torch.sigmoid(p[5])), torch.sigmoid(torch.tanh(p[6]) + torch.sigmoid(p[7]))
        c = torch.tanh(a + h[0]) * b
        return c, torch.tanh(c * torch.tanh(d + e))


class OriginalLSTMCell(Cell):
    """No forget gate."""

    gates, recurrent_maps, states = 3, 3, ("c", "h")

    def step(self, h, u):
        i, g, o = self.recurred(h[1], u)
        c = h[0] + torch.sigmoid(i) * torch.tanh(g)
        return c, torch.sigmoid(o) * torch.tanh(c)


class PeepholeLSTMCell(Cell):
    """i and f look at the old c, o at the new one."""

    gates, recurrent_maps, vectors, states = 4, 4, {"p": 3}, ("c", "h")

    def step(self, h, u):
        c, (i, f, g, o), (p_i, p_f, p_o) = h[0], self.recurred(h[1], u), self.p
        c = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
        return c, torch.sigmoid(o + p_o * c) * torch.tanh(c)


class QLSTMCell(Cell):
    """Gates of x alone; the state is c."""

    gates, states = 4, ("c",)

    def inputs(self, x):
        f, i, z, o = super().inputs(x)
        return torch.sigmoid(f + 1), torch.sigmoid(i) * torch.tanh(z), torch.sigmoid(o)

    def step(self, h, u):
        return (u[0] * h[0] + u[1],)

    def output(self, h, u):
        return u[2] * torch.tanh(h[0])


class RANCell(Cell):
    """Additive; the state is c, and h = tanh(c)."""

    gates, biases, recurrent_maps, states = 3, 2, 2, ("c",)

    def inputs(self, x):
        content, i, f = (head_linear(x, w) for w in self.w)
        return content, i + self.b[0], f + self.b[1]

    def step(self, h, u):
        i, f = self.recurred(torch.tanh(h[0]), u[1:])
        return (torch.sigmoid(i) * u[0] + torch.sigmoid(f) * h[0],)

    def output(self, h, u):
        return torch.tanh(h[0])


class ResLSTMCell(Cell):
    """h_t = o_t (tanh(c_t) M + x_t S)."""

    gates, recurrent_maps, memory_maps, vectors, outputs, states = 4, 4, 1, {"p": 3}, {"s": (1,)}, ("c", "h")

    def inputs(self, x):
        return *super().inputs(x), head_linear(x, self.s[0])

    def step(self, h, u):
        c, (i, f, g, o), (p_i, p_f, p_o) = h[0], self.recurred(h[1], u[:4]), self.p
        c = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
        return c, torch.sigmoid(o + p_o * c) * (self.recur(self.m[0], torch.tanh(c)) + u[4])


class SCRNCell(Cell):
    """A slow linear memory s, α = 0.95, beside a fast one."""

    gates, recurrent_maps, outputs, states = 2, 2, {"o": (2,)}, ("s", "h")

    def step(self, h, u):
        (s, h), (p, r) = h, self.r
        s = (1 - 0.95) * u[0] + 0.95 * s
        return s, torch.sigmoid(u[1] + self.recur(p, s) + self.recur(r, h))

    def output(self, h, u):
        return head_linear(h[1], self.o[0]) + head_linear(h[0], self.o[1])


class OutputSCRNCell(Cell):
    """The output is fed back, and α is learned."""

    gates, recurrent_maps, scalars, states = 2, 4, {"alpha": ()}, ("s", "y")

    def __init__(self, width, heads, recurrent):
        super().__init__(width, heads, recurrent)
        self.declare(by=(width,))

    def step(self, h, u):
        (s, y), (p, r, out_k, out_s) = h, self.r
        s = (1 - self.alpha) * u[0] + self.alpha * s
        k = torch.sigmoid(u[1] + self.recur(p, s) + self.recur(r, y))
        return s, torch.tanh(self.recur(out_k, k) + self.recur(out_s, s) + self.by)


class SGRNCell(Cell):
    """One gate, with the input's own map."""

    recurrent_maps, recurrent_biases = 1, 1

    def step(self, h, u):
        (h,), (p,) = h, u
        f = torch.sigmoid(p + self.recur(self.r[0], h) + self.b_r[0])
        return (torch.tanh(mix(f, h, p)),)


class SGUCell(Cell):
    """u_g multiplies the state; a hard gate."""

    gates, recurrent_maps, recurrent_biases = 2, 2, 1

    def proposal(self, x):
        """What the state moves to."""
        return softplus(x)

    def step(self, h, u):
        (h,), (r_g, r_z), (u_g, u_z) = h, self.r, u
        z_g = torch.tanh(self.recur(r_g, u_g * h) + self.b_r[0])
        return (mix(hardsigmoid(u_z + self.recur(r_z, h)), self.proposal(z_g * h), h),)


class DSGUCell(SGUCell):
    """The same with one more map."""

    memory_maps = 1

    def proposal(self, x):
        return torch.sigmoid(self.recur(self.m[0], x))


class SLSTMCell(Cell):
    """Exponential input gate; c and n in units of e^m."""

    gates, recurrent_maps, states = 4, 4, ("c", "n", "m", "h")

    def step(self, h, u):
        c, n, m, h_before = h
        i, f, z, o = self.recurred(h_before, u)
        kept = logsigmoid(f) + m
        m = torch.where(n == 0, i, torch.maximum(i, kept))
        f = torch.exp(torch.where(n == 0, torch.clamp(kept - i, max=0), kept - m))
        i = torch.exp(i - m)
        c, n = f * c + i * torch.tanh(z), f * n + i
        return c, n, m, torch.sigmoid(o) * c / n


class STARCell(Cell):
    """The candidate sees x alone, and the sum goes through tanh."""

    gates, recurrent_maps = 2, 1

    def inputs(self, x):
        z, k = super().inputs(x)
        return torch.tanh(z), k

    def step(self, h, u):
        return (torch.tanh(mix(torch.sigmoid(u[1] + self.recur(self.r[0], h[0])), u[0], h[0])),)


class TauGRUCell(Cell):
    """z sees the state of the step before; the newest state is the first."""

    gates, recurrent_maps, states = 4, 4, ("h0", "h1")

    def step(self, h, u):
        now, delayed = h
        seen = (now, delayed, now, now)
        c, z, g, a = (x + self.recur(r, y) for x, r, y in zip(u, self.r, seen, strict=True))
        g = torch.sigmoid(g)
        return (1 - g) * now + g * (torch.tanh(c) + torch.sigmoid(a) * torch.tanh(z)), now

    def output(self, h, u):
        return h[0]


class TRNNCell(Cell):
    """Strongly typed: gates of x alone."""

    gates = 2

    def step(self, h, u):
        return (mix(torch.sigmoid(u[1]), h[0], u[0]),)


class TGRUCell(Cell):
    """Gates z, f, o of x and of the x before, whose products with V are states."""

    gates, outputs, states = 3, {"v": (3,)}, ("z", "f", "o", "h")

    def inputs(self, x):
        return *super().inputs(x), *(head_linear(x, v) for v in self.v)

    def step(self, h, u):
        z, f, o = (now + before for now, before in zip(u[:3], h[:3], strict=True))
        return *u[3:], torch.sigmoid(f) * h[3] + z * torch.tanh(o)


class TLSTMCell(TGRUCell):
    """The same with a memory c."""

    states = ("z", "f", "o", "c", "h")

    def step(self, h, u):
        z, f, o = (now + before for now, before in zip(u[:3], h[:3], strict=True))
        c = mix(torch.sigmoid(f), h[3], z)
        return *u[3:], c, c * torch.tanh(o)


class UGRNNCell(Cell):
    """One gate, which keeps the past."""

    gates, recurrent_maps = 2, 2

    def step(self, h, u):
        n, g = self.recurred(h[0], u)
        return (mix(torch.sigmoid(g), h[0], torch.tanh(n)),)


class UnICORNNCell(Cell):
    """Undamped oscillators, dt = 0.1, each with its own time scale."""

    vectors, states = {"a": 1, "c": 1}, ("z", "y")

    def step(self, h, u):
        z, y = h
        s = 0.1 * torch.sigmoid(self.c[0])
        z = z - s * torch.tanh(self.a[0] * y + u[0])
        return z, y + s * z


class WMCLSTMCell(Cell):
    """Bounded peepholes with matrices."""

    gates, recurrent_maps, memory_maps, recurrent_biases, states = 4, 4, 3, 3, ("c", "h")

    def step(self, h, u):
        c, (i, f, g, o) = h[0], self.recurred(h[1], u)

        def peep(k, c):
            return torch.tanh(self.recur(self.m[k], c) + self.b_r[k])

        c = torch.sigmoid(f + peep(1, c)) * c + torch.sigmoid(i + peep(0, c)) * torch.tanh(g)
        return c, torch.sigmoid(o + peep(2, c)) * torch.tanh(c)


CELLS: dict[str, type[Cell]] = {
    "antisymmetric_rnn": AntisymmetricCell,
    "atr": ATRCell,
    "block_lstm": BlockLSTMCell,
    "br": NBRCell,
    "cfn": CFNCell,
    "cornn": CoRNNCell,
    "dsgu": DSGUCell,
    "elman": ElmanCell,
    "elstm": ELSTMCell,
    "fast_grnn": FastGRNNCell,
    "fast_rnn": FastRNNCell,
    "flax_gru": GRUCell,
    "gated_antisymmetric_rnn": GatedAntisymmetricCell,
    "gru": GRUCell,
    "ind_rnn": IndRNNCell,
    "intersection_rnn": IntersectionCell,
    "janet": JANETCell,
    "lem": LEMCell,
    "lem_stale": StaleLEMCell,
    "light_ru": LightRUCell,
    "ligru": LiGRUCell,
    "lstm": LSTMCell,
    "mclstm": MCLSTMCell,
    "mgu": MGUCell,
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "minimal_rnn": MinimalRNNCell,
    "miru1": MiRU1Cell,
    "miru2": MiRU2Cell,
    "multiplicative_lstm": MultiplicativeLSTMCell,
    "mut1": MUT1Cell,
    "mut2": MUT2Cell,
    "mut3": MUT3Cell,
    "nas": NASCell,
    "nbr": NBRCell,
    "original_lstm": OriginalLSTMCell,
    "para_gru": ParaGRUCell,
    "para_lstm": ParaLSTMCell,
    "peephole_lstm": PeepholeLSTMCell,
    "qlstm": QLSTMCell,
    "ran": RANCell,
    "res_lstm": ResLSTMCell,
    "scrn": SCRNCell,
    "scrn_torchrecurrent": OutputSCRNCell,
    "sgrn": SGRNCell,
    "sgu": SGUCell,
    "slstm": SLSTMCell,
    "star": STARCell,
    "t_gru": TGRUCell,
    "t_lstm": TLSTMCell,
    "t_rnn": TRNNCell,
    "tau_gru": TauGRUCell,
    "ug_rnn": UGRNNCell,
    "unicornn": UnICORNNCell,
    "wmclstm": WMCLSTMCell,
}


# ---- the model


class MLP(Part):
    """W_down (f(W_gate x) W_up x) for "swiglu" and "geglu", W_down max(W_up x, 0)² for "relu2"."""

    def __init__(self, width: int, hidden: int, kind: str, bias: bool):
        super().__init__()
        self.kind = kind
        maps = {"up": (width, hidden), "down": (hidden, width)} | ({} if kind == "relu2" else {"gate": (width, hidden)})
        self.declare(**{f"w_{name}": shape for name, shape in maps.items()})
        self.declare(**{f"b_{name}": shape[1:] if bias else None for name, shape in maps.items()})

    def forward(self, x: Tensor) -> Tensor:
        up = self._map("up", x)
        y = relu(up).square() if self.kind == "relu2" else self._activated(self._map("gate", x)) * up
        return self._map("down", y)

    def _activated(self, x: Tensor) -> Tensor:
        return silu(x) if self.kind == "swiglu" else gelu_tanh(x)

    def _map(self, name: str, x: Tensor) -> Tensor:
        return linear(x, getattr(self, f"w_{name}"), getattr(self, f"b_{name}", None))


def declare_norm(part: Part, name: str, model: dict[str, Any]) -> None:
    """The parameters of `norm`."""
    width = model["width"]
    part.declare(**{name: (width,), f"{name}_bias": (width,) if model["norm"] == "layer" else None})


def norm(part: nn.Module, name: str, x: Tensor, model: dict[str, Any]) -> Tensor:
    """RMSNorm or LayerNorm of x, whichever the model has."""
    gain = getattr(part, name)
    if model["norm"] == "rms":
        return rms_norm(x, gain, model["norm_eps"])
    return layer_norm(x, gain, getattr(part, f"{name}_bias"), model["norm_eps"])


class Block(Part):
    """s x + mixer(norm(x)), then x + mlp(norm(x)) or, "parallel", both at once of one norm; for mixers in `post_norm`
    s x + norm(mixer(x)), then x + norm(mlp(x)); "deepnorm": s α n + mixer(n), n = norm(x), then α n + mlp(n).
    """

    def __init__(self, model: dict[str, Any], kind: str):
        super().__init__()
        self.model, self.post = model, kind in model["post_norm"]
        self.mixer = MIXERS[kind](model["width"], **model["options"].get(kind, {}))
        declare_norm(self, "mixer_norm", model)
        self.declare(skip=() if model["residual_scale"] else None)
        hidden = hidden_width(model)
        self.mlp = MLP(model["width"], hidden, model["mlp"], model["mlp_bias"]) if hidden else None
        if self.mlp is not None and model["residual"] != "parallel":
            declare_norm(self, "mlp_norm", model)

    def forward(self, x: Tensor, state: State, mask: Mask, depth: Depth) -> tuple[Tensor, State]:
        normed = self._before("mixer_norm", x)
        y, state = self.mixer(normed, state, mask, depth)
        x = self._stream(x, normed)
        y = (x * self.skip.to(x.dtype) if self.model["residual_scale"] else x) + self._after("mixer_norm", y)
        if self.mlp is not None:
            normed = normed if self.model["residual"] == "parallel" else self._before("mlp_norm", y)
            y = self._stream(y, normed) + self._after("mlp_norm", self.mlp(normed))
        return y, state

    def _stream(self, x: Tensor, normed: Tensor) -> Tensor:
        return self.model["residual_factor"] * normed if self.model["residual"] == "deepnorm" else x

    def _before(self, name: str, x: Tensor) -> Tensor:
        return x if self.post else norm(self, name, x, self.model)

    def _after(self, name: str, x: Tensor) -> Tensor:
        return norm(self, name, x, self.model) if self.post else x


def hidden_width(model: dict[str, Any]) -> int:
    """Of the MLP: 8/3 of the width, rounded up to a multiple of 64, where it is not given; 0 for none."""
    given = model["mlp_width"]
    return 64 * math.ceil(8 * model["width"] / 3 / 64) if given is None else given


class Tower(Part):
    """Embedding, blocks, head, with transformers and without; `model` is what config.json calls "jaxseq"."""

    def build(self, model: dict[str, Any]) -> None:
        """Declares all parameters. Raises ValueError for a mixer that this file does not have."""
        if missing := [kind for kind in model["pattern"] if kind not in MIXERS]:
            raise ValueError(f"pattern must be made of {', '.join(MIXERS)}, got {missing[0]!r}")
        model = {"post_norm": [], "residual_factor": 1.0} | model  # which older folders do not say
        self.model, width, pattern = model, model["width"], model["pattern"]
        kinds = pattern if model["shared_layers"] else pattern * (model["layers"] // len(pattern))
        self.declare(embedding=(model["vocab"], width), head=None if model["tied"] else (width, model["vocab"]))
        declare_norm(self, "norm", model)
        if model["embedding_norm"]:
            declare_norm(self, "embedding_norm", model)
        blocks = [Block(model, kind) for kind in kinds]
        self.layers = nn.ModuleList(blocks)
        columns = {kind: block.mixer.table for kind, block in zip(pattern, blocks, strict=False)}
        self.declare(**{f"{kind}_table": (self._count(kind), n) for kind, n in columns.items() if n is not None})

    def init_state(self, batch: int) -> list[State]:
        """The state before a document, of each layer."""
        return [self._layer(i).mixer.init_state(batch) for i in range(self.model["layers"])]

    def run(self, tokens: Tensor, state: list[State] | None, mask: Mask) -> tuple[Tensor, list[State]]:
        """Logits (B, T, vocab), float32 or wider, and the state after tokens (B, T); see the module for the mask."""
        model, pattern, after = self.model, self.model["pattern"], []
        state = self.init_state(tokens.shape[0]) if state is None else state
        x = self.embedding[tokens] * model["embedding_scale"]
        x = norm(self, "embedding_norm", x, model) if model["embedding_norm"] else x
        depths = {kind: Depth(self._count(kind), model["layers"], self._bounds(kind)) for kind in pattern}
        for i, before in enumerate(state):
            depth = depths[pattern[i % len(pattern)]]
            depth.place = i
            x, new = self._layer(i)(x, before, mask, depth)
            depth.index += 1
            after.append(new)
        x = norm(self, "norm", x, model)
        logits = wide_linear(x, self.embedding.T if model["tied"] else self.head)
        cap = model["logit_cap"]
        return logits if cap is None else cap * torch.tanh(logits / cap), after

    def _layer(self, i: int) -> Block:
        return self.layers[i % len(self.layers)]  # pyright: ignore[reportReturnType]

    def _count(self, kind: str) -> int:
        return self.model["pattern"].count(kind) * (self.model["layers"] // len(self.model["pattern"]))

    def _bounds(self, kind: str) -> Tensor | None:
        """The running sum over depth of a softmax over depth, less its first row."""
        table = getattr(self, f"{kind}_table", None)
        if table is None:
            return None
        shares = softmax(wide(table), dim=0)
        return shares.cumsum(0) - shares[:1]


class Jaxseq(Tower):
    """The language model: tokens to logits, with recurrent state, and generation from it.

    Attributes:
      config: what config.json says.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = config
        self.build(config["jaxseq"])

    def forward(
        self, tokens: Tensor, state: list[State] | None = None, mask: Mask = None
    ) -> tuple[Tensor, list[State]]:
        """Logits (B, T, vocab) and the state after tokens (B, T) int64; tokens with mask (B, T) False are not there."""
        return self.run(tokens, state, mask)

    @torch.no_grad()
    def generate(
        self,
        prompt_ids: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        mask: Mask = None,
        generator: torch.Generator | None = None,
        stop: int | None = None,
        drawn: int | None = None,
    ) -> Tensor:
        """The tokens (B, n) that follow prompts (B, T) int64, n at most max_new_tokens; the state does not grow.

        Args:
          prompt_ids: one row for each prompt; padded on either side where `mask` (B, T) is False.
          max_new_tokens: at most.
          temperature: 0 for the most probable token.
          generator: of the random numbers.
          stop: a token after which a row is filled up with it; None for none. Ends once every row has drawn it.
          drawn: only tokens below it are; where None, config.json's `drawn_vocab` (the rest of a vocabulary may be
            padding), or all.

        Raises:
          ValueError: no prompt tokens, or more tokens than an attention layer without a window sees.
          FloatingPointError: logits that are not finite.
        """
        self._check_context(prompt_ids.shape[1] + max_new_tokens - 1)
        drawn = self.config.get("drawn_vocab", self.model["vocab"]) if drawn is None else drawn
        logits, state = self.run(prompt_ids, None, mask)
        last = logits[:, -1] if mask is None else take(logits, _last_valid(mask))[:, 0]
        ids, done = [], torch.zeros(len(prompt_ids), dtype=torch.bool, device=prompt_ids.device)
        for n in range(max_new_tokens):
            token = _drawn(last[:, :drawn], temperature, generator)
            token = token if stop is None else torch.where(done, stop, token)
            ids.append(token)
            done = done if stop is None else done | (token == stop)
            if done.all() or n == max_new_tokens - 1:
                break
            logits, state = self.run(token[:, None], state, None)
            last = logits[:, -1]
        return torch.stack(ids, dim=1)

    def _check_context(self, tokens: int) -> None:
        options = self.model["options"].get("attention", {})
        bounded = "attention" in self.model["pattern"] and options.get("window") is None
        if bounded and tokens > (context := options.get("context", 2048)):
            raise ValueError(f"the prompt and max_new_tokens must be at most {context} tokens, got {tokens}")


def _last_valid(mask: Tensor) -> Tensor:
    """The place of the last valid token of each row (B, 1)."""
    return torch.where(mask, torch.arange(mask.shape[1], device=mask.device), 0).amax(1, keepdim=True)


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """A token (B,) from logits (B, vocab)."""
    if not torch.isfinite(logits).all():
        raise FloatingPointError("logits must be finite, got NaN or inf")
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial(softmax(logits / temperature, -1), 1, generator=generator)[:, 0]


# ---- folders

BOS = 256  # opens every document of a byte-level model, and ends it
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def encode(text: str) -> Tensor:
    """A prompt (1, T) for a byte-level model: BOS, then the bytes."""
    return torch.tensor([[BOS, *text.encode()]])


def decode(ids: Tensor) -> str:
    """The text of tokens (T,) of a byte-level model, up to the next BOS."""
    values = ids.tolist()
    return bytes(values[: values.index(BOS)] if BOS in values else values).decode(errors="replace")


def load(folder: str | Path, dtype: torch.dtype | None = None) -> Jaxseq:
    """The model of a folder with config.json and safetensors, in evaluation mode, in the files' dtype or in `dtype`.

    Raises FileNotFoundError where one is not there, RuntimeError for tensors that are missing, unknown or misshapen.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    index = folder / "model.safetensors.index.json"
    names = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    tensors = {name: value for file in sorted(names) for name, value in read_safetensors(folder / file).items()}
    model = Jaxseq(config).to(next(iter(tensors.values())).dtype)
    model.load_state_dict(tensors)
    return (model if dtype is None else model.to(dtype)).eval()


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a file: eight bytes of size, so many of JSON, then the numbers. Raises ValueError if truncated."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start, tensors = file.tell(), {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            file.seek(start + first)
            data = bytearray(file.read(last - first))
            if len(data) < last - first:
                raise ValueError(f"{path} is truncated in {name}")
            tensors[name] = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


# ---- transformers, imported only if its classes are asked for


class Causal(Tower):
    """What transformers calls; JaxseqForCausalLM adds its base classes."""

    Output: Callable[..., Any]
    _is_stateful = True

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def _init_weights(self, module: nn.Module) -> None:
        """All weights come from the folder."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: list[State] | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        **unused: Any,
    ) -> Any:
        """Logits of input_ids (B, T), and with labels (B, T) the mean loss of each next one."""
        mask = None if attention_mask is None else attention_mask.bool()
        logits, state = self.run(input_ids, state, mask)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return self.Output(loss=loss, logits=logits, state=None if use_cache is False else state)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        state: list[State] | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        **unused: Any,
    ) -> dict[str, Any]:
        """All tokens at first, then the last one and the state."""
        if state is not None:
            input_ids, attention_mask = input_ids[:, -1:], None
        return {"input_ids": input_ids, "attention_mask": attention_mask, "state": state, "use_cache": use_cache}


def __getattr__(name: str) -> Any:
    """JaxseqConfig and JaxseqForCausalLM, which transformers' Auto classes look up here."""
    if name not in ("JaxseqConfig", "JaxseqForCausalLM"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals().update(_transformers_classes())
    return globals()[name]


def _transformers_classes() -> dict[str, Any]:
    from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.utils.generic import ModelOutput

    @dataclass
    class JaxseqOutput(ModelOutput):
        """The loss (of labels), logits (B, T, vocab), and the state after the last token."""

        loss: Tensor | None = None
        logits: Tensor | None = None
        state: Any = None

    class JaxseqConfig(PretrainedConfig):
        """config.json; `jaxseq` is the model's own part."""

        model_type = "jaxseq"

        def __init__(self, jaxseq: dict[str, Any] | None = None, **fields: Any):
            self.jaxseq = jaxseq
            super().__init__(**fields)

    class JaxseqForCausalLM(Causal, PreTrainedModel, GenerationMixin):
        """The same model behind transformers' interface: greedy and sampled generation carry the state."""

        config_class, Output = JaxseqConfig, JaxseqOutput

        def __init__(self, config: Any):
            super().__init__(config)
            self.build(config.jaxseq)
            self.post_init()

    return {"JaxseqConfig": JaxseqConfig, "JaxseqForCausalLM": JaxseqForCausalLM}
