"""What the contract suite needs to know of each mixer: small options, and fields that it must refuse."""

from jaxseq.cells import CELLS

WIDTH = 16

# Options that make a mixer small, or show another of its faces. A mixer that is not named has its defaults.
OPTIONS = {
    "attention": [{"heads": 2, "window": 8}, {"heads": 4, "kv_heads": 2, "context": 64}],
    "para_rnn": [{"heads": 2}],
}
BAD = {
    "attention": [
        ({"heads": 3}, "heads = 3 must divide width = 16 where head_dim is not given"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads = 3 must divide heads = 4"),
        ({"head_dim": 3}, "head_dim must be even, to be turned in pairs, got 3"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"context": 8}, "model.options.attention.context = 8 must be at least the number of tokens in a call, got 24"),
        ({"rope_base": 0.0}, "rope_base must be above 1, got 0.0"),
    ],
    "lru": [
        ({"states": 0}, "states must be at least 1, got 0"),
        ({"min_radius": 0.9, "max_radius": 0.5}, "0 <= min_radius < max_radius <= 1, got 0.9 and 0.5"),
        ({"max_phase": 0.0}, "max_phase must be positive, got 0.0"),
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
}
