"""Which faces of the contract are slow: those that compile most, but for a few mixers."""

import pytest

AT_LENGTH = {
    "test_gradients_are_those_of_float64",
    "test_extreme_inputs_have_finite_outputs_and_gradients",
    "test_eight_devices_give_the_numbers_of_one",
    "test_no_output_depends_on_a_later_input_and_all_on_their_own",
    "test_bfloat16_activations_are_near_float32",
    "test_single_steps_are_the_whole",
}
ALWAYS = {"lru", "mamba2", "para_rnn"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        call = getattr(item, "callspec", None)
        if (
            call
            and getattr(item, "originalname", None) in AT_LENGTH
            and call.params["subject"] not in [(x, 0) for x in ALWAYS]
        ):
            item.add_marker(pytest.mark.slow)
