"""How the bundles of Newton in registers are counted."""

from jaxseq.benchmark.static_newton import deepest


def test_the_innermost_loops_are_counted_apart_from_what_is_around_them():
    lines = [
        "   0x1   :  { a }",
        "  0x30 LB: > { b }",
        "  0x70 LB: >> { c }",
        "  0x71   : >> { d }",
        "  0x72 PF: > { e }",
        "  0x73 LB: >> { f }",
        "element_size_in_bytes: 4096",
    ]
    assert deepest(lines) == ([2, 1], 2)
