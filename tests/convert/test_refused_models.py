"""What a class of transformers can be and our model cannot is refused by its name, and so the other way round."""

from dataclasses import replace

import pytest

from jaxseq.convert.architecture import Fields
from jaxseq.convert.architectures import ARCHITECTURES
from jaxseq.convert.hf import choose
from jaxseq.model import ModelConfig
from tests.convert.classes import MODELS

ROPE = {"rope_type": "default", "rope_theta": 10.0}


@pytest.fixture(scope="module")
def configs():
    """config.json of each tiny model, by its model_type."""
    return {name: make().config.to_dict() for name, make in MODELS.items()}


def read(values) -> ModelConfig:
    fields = Fields(values)
    config = next(a for a in ARCHITECTURES if a.model_type == values["model_type"]).read_config(fields)
    fields.done()
    return config


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("qwen3_5_text", {"attention_bias": True}, "attention_bias must be False"),
        ("qwen3_5_text", {"hidden_act": "gelu"}, "hidden_act must be 'silu'"),
        ("qwen3_5_text", {"rope_parameters": ROPE | {"rope_type": "yarn"}}, "rope_type must be 'default'.*got 'yarn'"),
        ("qwen3_5_text", {"rope_parameters": ROPE | {"factor": 2}}, "rope_parameters has factor, which"),
        ("qwen3_5_text", {"layer_types": ["sliding_attention"] * 3}, "layer_types must be .* got sliding_attention"),
        ("olmo_hybrid", {"attention_bias": True}, "attention_bias must be False"),
        ("olmo_hybrid", {"rope_parameters": None}, "rope_parameters must be given, for no positions with rope_theta"),
        ("olmo_hybrid", {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}}, "factor must be 1 .* got 0.5"),
        ("kimi_linear", {"layer_types": ["full_attention"] * 2}, "no multi-head latent attention.*got full_attention"),
        ("kimi_linear", {"mlp_layer_types": ["dense", "sparse"]}, "no mixture of experts.*got sparse"),
        ("kimi_linear", {"tie_word_embeddings": True}, "tie_word_embeddings must be False"),
        ("minimax", {"num_local_experts": 8}, "num_local_experts must be 1 to be converted, got 8"),
        ("minimax", {"mlp_alpha_factor": 2.0}, r"mlp_alpha_factor must be one number .* got \[1.5, 1.5, 2.0\]"),
        ("minimax", {"mlp_beta_factor": 2.0}, "mlp_beta_factor must be 1"),
    ],
)
def test_a_config_json_that_cannot_be_converted_is_named(name, changed, message, configs):
    with pytest.raises(ValueError, match=message):
        read(configs[name] | changed)


def with_options(config, kind, **options):
    return replace(config, options=config.options | {kind: config.options[kind] | options})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("qwen3_5_text", lambda c: with_options(c, "attention", out_gate=False), r"out_gate must be True, got False"),
        ("qwen3_5_text", lambda c: with_options(c, "gated_delta_net", beta_max=2.0), r"beta_max must be 1.0, got 2.0"),
        ("qwen3_5_text", lambda c: replace(c, mlp="geglu"), r"mlp must be 'swiglu', got 'geglu'"),
        ("qwen3_5_text", lambda c: replace(c, mlp_width=0), r"model.mlp_width must not be 0"),
        ("olmo_hybrid", lambda c: replace(c, post_norm=()), r"post_norm must be \('attention',\), got \(\)"),
        ("olmo_hybrid", lambda c: with_options(c, "attention", head_dim=6), r"head_dim must be width / heads, got 6"),
        ("olmo_hybrid", lambda c: with_options(c, "gated_delta_net", beta_max=1.5), r"beta_max 1 or 2, got .* and 1.5"),
        ("kimi_linear", lambda c: with_options(c, "kda", rank=0), r"rank must be one number, got 6, 6 and 0"),
        ("kimi_linear", lambda c: with_options(c, "kda", lower_bound=-5.0), r"lower_bound must be None, got -5.0"),
        (
            "minimax",
            lambda c: with_options(c, "retnet", heads=2),
            r"heads of attention, .* got 2 of 48 and 48 .* 4 of 12",
        ),
        (
            "minimax",
            lambda c: with_options(c, "retnet", form="retnet"),
            r"retnet.form must be 'lightning', got 'retnet'",
        ),
        ("lfm2", lambda c: with_options(c, "attention", out_gate=True), r"attention.out_gate must be False, got True"),
        ("recurrent_gemma", lambda c: with_options(c, "attention", out_gate=True), r"attention.out_gate must be False"),
        *(
            (name, lambda c: with_options(c, "attention", weights="softplus"), r"attention.weights must be 'softmax'")
            for name in ("qwen3_5_text", "olmo_hybrid", "minimax", "lfm2", "recurrent_gemma")
        ),
    ],
)
def test_a_model_that_a_class_has_not_is_named(name, change, message, configs):
    with pytest.raises(ValueError, match=message):
        choose(change(read(configs[name])))


def test_parts_of_positions_in_images_change_nothing_in_text(configs):
    rope = configs["qwen3_5_text"]["rope_parameters"] | {"mrope_section": [1, 1, 1], "mrope_interleaved": True}
    assert read(configs["qwen3_5_text"] | {"rope_parameters": rope}) == read(configs["qwen3_5_text"])


def test_no_positions_are_written_as_they_were_read(configs):
    config = read(configs["olmo_hybrid"] | {"rope_parameters": {"rope_type": "default", "rope_theta": None}})
    assert config.options["attention"]["rope_fraction"] == 0
    architecture, written = choose(config)
    assert architecture.model_type == "olmo_hybrid"
    assert written["rope_parameters"] == {"rope_type": "default", "rope_theta": None}
