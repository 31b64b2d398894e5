"""A tiny run compiled for a slice of TPUs that is not there: its figures, whether it fits, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from jaxseq.compiled.chips import CHIPS, devices
from jaxseq.config import load_config
from jaxseq.experiment import DataConfig, Experiment
from jaxseq.model import ModelConfig
from jaxseq.preflight import lines, preflight
from jaxseq.preflight.hints import hints
from jaxseq.preflight.programs import PROGRAMS
from jaxseq.preflight.run import chip_mesh
from jaxseq.preflight.show import row, verdict

CONFIGS = Path(__file__).parent.parent.parent / "configs"
WIDTH, VOCAB, ROWS, TIME = 128, 512, 8, 128
CONFIG = Experiment(
    model=ModelConfig(vocab=VOCAB, width=WIDTH, layers=2, pattern=("lru",), mlp_width=256, dtype="bfloat16"),
    data=DataConfig(length=TIME, batch=ROWS),
    mesh=(1, -1, 1, 1),
)
KEYS = {"parameters", "bytes_per_chip", "hbm_per_chip", "fits", "flops", "collectives", "compile_seconds"}


def changed(**model):
    return replace(CONFIG, model=replace(CONFIG.model, **model))


@pytest.fixture(scope="module")
def result():
    return preflight(CONFIG, "v5e:2x2")


def test_every_program_has_every_figure(result):
    assert set(result) >= KEYS
    assert set(result["programs"]) == set(PROGRAMS[1:])
    assert all(set(found) >= KEYS - {"parameters"} for found in result["programs"].values())


def test_it_fits_and_says_so_in_words(result):
    said = list(lines(result))
    assert result["fits"]
    assert said[0].startswith("v5e:2x2: 4 chips, data 1 x fsdp 4 x tensor 1 x seq 1;")
    assert said[-1].startswith("fits: at most 0.0")
    assert sum(line.startswith(PROGRAMS) for line in said) == 3


def test_the_state_is_split_over_the_chips(result):
    """Parameters and two moments in float32, and the batch; vectors are padded to tiles."""
    state, batch = 12 * result["parameters"] / 4, ROWS / 4 * TIME * (4 + 1 + 4)
    assert state + batch <= result["memory"]["arguments"] <= 1.35 * (state + batch)


def test_the_products_are_those_of_the_model_once_for_every_layer(result):
    """Six for each weight and token but for the embedding, which is looked up, and for vectors; none is done twice."""
    looked_up = 6 * VOCAB * WIDTH * ROWS * TIME / 4
    assert result["flops"] == pytest.approx(result["model_flops"] - looked_up, rel=0.01)


def test_gradients_are_exchanged_in_the_loop_over_layers(result):
    kinds = result["collectives"]
    assert kinds["all-gather"]["in_loops"] > 0
    assert all(entry["runs"] >= entry["count"] for entry in kinds.values())
    assert result["sent_bytes"] > 0


def test_the_slowest_part_binds(result):
    assert result["seconds"][result["bound"]] == max(result["seconds"].values())


def test_a_row_of_the_table_has_a_cell_for_every_head(result):
    assert row("tiny", result).count("|") == 11
    assert "| tiny | v5e:2x2 | 1 x 4 x 1 x 1 |" in row("tiny", result)


@pytest.mark.slow
def test_a_deeper_model_has_no_more_collectives():
    counts = [
        {kind: entry["count"] for kind, entry in found["collectives"].items()}
        for found in (preflight(changed(layers=n), "v5e:2x2", only=("train",)) for n in (3, 6))
    ]
    assert counts[0] == counts[1]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(1, -1, 1, 1), (1, 2, 1, 2)], ids=str)
def test_a_deeper_para_gru_1b_has_no_more_collectives(mesh):
    """Both are one scanned layer: the shipped config, narrow, on chips of rows and of time."""
    shipped = load_config(CONFIGS / "para_gru_1b.py")
    narrow = {"width": WIDTH, "mlp_width": 256, "vocab": VOCAB}
    counts = [
        {kind: entry["count"] for kind, entry in found["collectives"].items()}
        for found in (
            preflight(
                replace(shipped, model=replace(shipped.model, layers=n, **narrow), data=CONFIG.data, mesh=mesh),
                "v5e:2x2",
                only=("train",),
            )
            for n in (3, 6)
        )
    ]
    assert counts[0] == counts[1]


def test_what_the_compiler_refuses_does_not_fit_and_has_hints():
    large = replace(changed(remat="none"), data=DataConfig(length=4096, batch=4096))
    found = preflight(large, "v5e:2x2", only=("train",))
    assert not found["fits"]
    assert found["bytes_per_chip"] > found["hbm_per_chip"]
    assert verdict(found).startswith("does not fit: train need up to")
    assert any(hint.startswith("--set=train.accumulate=") for hint in found["hints"])


def test_a_hint_is_a_change_that_suffices_by_its_estimate():
    mesh = chip_mesh((4, 1, 1, 1), devices("v5e:2x2"))
    memory = {"memory": {"arguments": 8 << 30}, "bytes_per_chip": 12 << 30, "hbm_per_chip": 11 << 30}
    found = hints(CONFIG, mesh, memory)
    assert any(hint.startswith("--set=mesh=1,4,1,1: about 6.00 GiB") for hint in found)
    assert not any("accumulate" in hint for hint in found)  # another copy of the gradients is more than it saves


@pytest.mark.parametrize(
    ("config", "topology", "options", "message"),
    [
        (CONFIG, None, {}, "topology must be a TPU slice .* got None"),
        (CONFIG, "h100", {}, "topology must be a TPU slice .* got h100"),
        (CONFIG, "v9:2x2", {}, "topology must be a chip .* got 'v9:2x2'"),
        (CONFIG, "v5e:3x5", {}, "topology must be one that the compiler knows, got 'v5e:3x5'"),
        (replace(CONFIG, mesh=(1, 3, 1, 1)), "v5e:2x2", {}, "needs a multiple of 3 devices, there are 4"),
        (replace(CONFIG, data=DataConfig(length=128, batch=6)), "v5e:2x2", {}, "6 rows must divide over data x fsdp"),
        (replace(CONFIG, mesh=(1, 1, 1, -1), data=DataConfig(length=30)), "v5e:2x2", {}, "must divide over seq = 4"),
        (CONFIG, "v5e:2x2", {"only": ("fit",)}, "only must name some of train, prefill, decode, got fit"),
        (CONFIG, "v5e:2x2", {"slices": 2}, "the data axis must divide by the 2 slices"),
        (changed(width=130), "v5e:2x2", {}, "axis 'embed' of size 130 must divide by 4"),
    ],
)
def test_what_cannot_be_is_one_clear_line(config, topology, options, message):
    with pytest.raises(ValueError, match=message) as error:
        preflight(config, topology, **options)
    assert "\n" not in str(error.value)


def test_of_two_slices_the_data_axis_has_one_each():
    mesh = chip_mesh((2, -1, 1, 1), devices("v5e:2x2", 2))
    assert [{x.slice_index for x in block.ravel()} for block in mesh.devices] == [{0}, {1}]


@pytest.mark.slow
def test_between_slices_go_sums_of_gradients_alone():
    found = preflight(replace(CONFIG, mesh=(2, -1, 1, 1)), "v5e:2x2", slices=2, only=("train",))
    assert found["chips"] == 8
    assert found["collectives"]["network"]["bytes"] > 0


def test_the_table_of_chips_has_what_a_roofline_needs():
    assert all(min(x.peak, x.memory, x.link) > 0 for x in CHIPS.values())


@pytest.mark.slow
def test_a_shipped_config_fits_the_slice_that_it_names():
    config = load_config(CONFIGS / "para_gru_1b.py")  # the others need as long: launch/preflight.py --table
    found = preflight(config, only=("train",))
    assert found["fits"]
    # Parameters and two moments, whole on the chips of the fsdp axis alone but for vectors, and the batch.
    assert found["memory"]["arguments"] < 1.2 * (12 * found["parameters"] / found["mesh"]["fsdp"]) + 2**23
