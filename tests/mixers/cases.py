"""What the contract suite needs to know of each mixer: small options, and fields that it must refuse."""

from jaxseq.cells import CELLS

WIDTH = 16

# Options that make a mixer small, or show another of its faces. A mixer that is not named has its defaults.
OPTIONS = {
    "attention": [
        {"heads": 2, "window": 8},
        {"heads": 4, "kv_heads": 2, "context": 64, "rope_fraction": 0.5, "out_bias": True},
    ],
    "longhorn": [{"inner": 24, "states": 4, "beta_rank": 3, "chunk": 5}],
    "mamba": [{"inner": 24, "states": 4, "dt_rank": 6, "select_norm": "learned", "chunk": 5}],
    "mamba2": [{"inner": 24, "head_dim": 6, "states": 5, "groups": 2}],
    "min_gru": [{"inner": 24}, {"form": "plain", "conv_width": 0}],
    "min_lstm": [{"inner": 20, "forget_bias": 1.0}],
    "para_rnn": [{"heads": 2}],
    "rg_lru": [{"inner": 24, "heads": 4}],
    "rwkv6": [{"head_dim": 4, "mix_rank": 3, "decay_rank": 4, "out_gain": 1.0}],
    "rwkv7": [{"head_dim": 4, "decay_rank": 4, "eta_rank": 3, "value_rank": 2, "gate_rank": 6, "out_gain": 1.0}],
    "s4d": [{"states": 8, "dt_min": 0.1, "dt_max": 1.0, "chunk": 5}],
    "s5": [{"states": 24, "blocks": 2}, {"discretization": "bilinear", "activation": "half_glu2", "clip_eigs": True}],
    "short_conv": [{"conv_width": 6}],
}
BAD = {
    "attention": [
        ({"heads": 3}, "heads = 3 must divide width = 16 where head_dim is not given"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads = 3 must divide heads = 4"),
        ({"head_dim": 3}, "rope_fraction * head_dim must be even, to be turned in pairs, got 1.0 * 3"),
        (
            {"head_dim": 6, "rope_fraction": 0.5},
            "rope_fraction * head_dim must be even, to be turned in pairs, got 0.5 * 6",
        ),
        ({"rope_fraction": 1.5}, "rope_fraction must be in [0, 1], got 1.5"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"context": 8}, "model.options.attention.context = 8 must be at least the number of tokens in a call, got 24"),
        ({"rope_base": 0.0}, "rope_base must be above 1, got 0.0"),
    ],
    "longhorn": [
        ({"inner": 0}, "inner must be a positive int, got 0"),
        ({"states": 0}, "states must be a positive int, got 0"),
        ({"beta_rank": 0}, "beta_rank must be a positive int, got 0"),
        ({"conv_width": 0}, "conv_width must be a positive int, got 0"),
        ({"chunk": 0}, "chunk must be a positive int, got 0"),
    ],
    "lru": [
        ({"states": 0}, "states must be at least 1, got 0"),
        ({"min_radius": 0.9, "max_radius": 0.5}, "0 <= min_radius < max_radius <= 1, got 0.9 and 0.5"),
        ({"max_phase": 0.0}, "max_phase must be positive, got 0.0"),
    ],
    "mamba": [
        ({"inner": 0}, "inner must be a positive int, got 0"),
        ({"states": 0}, "states must be a positive int, got 0"),
        ({"dt_rank": 0}, "dt_rank must be a positive int, got 0"),
        ({"conv_width": 0}, "conv_width must be a positive int, got 0"),
        ({"chunk": 0}, "chunk must be a positive int, got 0"),
        ({"dt_min": 0.1, "dt_max": 0.01}, "step sizes must satisfy 0 < dt_min <= dt_max, got 0.1 and 0.01"),
        ({"select_norm": "rms"}, "select_norm must be one of none, unit, learned, got 'rms'"),
    ],
    "mamba2": [
        ({"inner": 0}, "inner must be a positive int, got 0"),
        ({"states": 0}, "states must be a positive int, got 0"),
        ({"groups": 0}, "groups must be a positive int, got 0"),
        ({"conv_width": 0}, "conv_width must be a positive int, got 0"),
        ({"head_dim": 0}, "head_dim must be a positive int, got 0"),
        ({"head_dim": 5}, "head_dim = 5 must divide inner = 32"),
        ({"head_dim": 8, "groups": 3}, "groups = 3 must divide inner / head_dim = 4"),
        ({"dt_min": 0.1, "dt_max": 0.01}, "step sizes must satisfy 0 < dt_min <= dt_max, got 0.1 and 0.01"),
    ],
    "min_gru": [
        ({"inner": 0}, "inner must be a positive int, got 0"),
        ({"form": "logs"}, "form must be one of log, plain, got 'logs'"),
        ({"conv_width": -1}, "conv_width must not be negative, got -1"),
    ],
    "min_lstm": [
        ({"inner": 0}, "inner must be a positive int, got 0"),
        ({"form": "logs"}, "form must be one of log, plain, got 'logs'"),
        ({"conv_width": -1}, "conv_width must not be negative, got -1"),
    ],
    "para_rnn": [
        ({"cell": "grue"}, f"cell must be one of {', '.join(CELLS)}, got 'grue'"),
        ({"recurrent": "full"}, "recurrent must be one of dense, diagonal, got 'full'"),
        ({"recurrent": "dense"}, "recurrent must be diagonal for the cell para_gru, got 'dense'"),
        ({"solver": "newtn"}, "got 'newtn'"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"solver": "auto", "window": 8}, "window must be None for the solver auto, got 8"),
        ({"on_failure": "give up"}, "on_failure must be one of sequential, return, raise, got 'give up'"),
        ({"heads": 3}, "heads = 3 must divide d_input = 16 and d_state = 16"),
        ({"inner": 0}, "inner must be at least 1, got 0"),
        ({"conv_width": 0}, "conv_width must be at least 1, got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
    ],
    "rg_lru": [
        ({"inner": 0}, "inner must be a positive int, got 0"),
        ({"heads": 3}, "heads = 3 must divide inner = 16"),
        ({"conv_width": 0}, "conv_width must be a positive int, got 0"),
        ({"max_radius": 1.0}, "0 < min_radius < max_radius < 1, got 0.9 and 1.0"),
        ({"out_variance": 0.0}, "out_variance must be positive, got 0.0"),
    ],
    "rwkv6": [
        ({"head_dim": 3}, "head_dim = 3 must divide width = 16"),
        ({"head_dim": 0}, "head_dim must be a positive int, got 0"),
        ({"mix_rank": 0}, "mix_rank must be a positive int, got 0"),
        ({"decay_rank": -1}, "decay_rank must be a positive int, got -1"),
    ],
    "rwkv7": [
        ({"head_dim": 3}, "head_dim = 3 must divide width = 16"),
        ({"head_dim": 0}, "head_dim must be a positive int, got 0"),
        ({"decay_rank": 0}, "decay_rank must be a positive int, got 0"),
        ({"gate_rank": -1}, "gate_rank must be a positive int, got -1"),
    ],
    "s4d": [
        ({"states": 0}, "states must be a positive int, got 0"),
        ({"states": 7}, "states must be even, got 7"),
        ({"chunk": 0}, "chunk must be a positive int, got 0"),
        ({"init_a": "legs"}, "init_a must be one of lin, inv, real, got 'legs'"),
        ({"dt_min": 0.0}, "steps must satisfy 0 < dt_min <= dt_max, got 0.0 and 0.1"),
    ],
    "s5": [
        ({"states": 0}, "states must be a positive int, got 0"),
        ({"states": 8, "blocks": 3}, "states = 8 must be a multiple of 2 * blocks = 6"),
        ({"discretization": "euler"}, "discretization must be one of zoh, bilinear, got 'euler'"),
        ({"activation": "glu"}, "activation must be one of full_glu, half_glu1, half_glu2, gelu, got 'glu'"),
        ({"dt_min": 0.1, "dt_max": 0.01}, "steps must satisfy 0 < dt_min <= dt_max, got 0.1 and 0.01"),
    ],
    "short_conv": [({"conv_width": 0}, "conv_width must be a positive int, got 0")],
}
