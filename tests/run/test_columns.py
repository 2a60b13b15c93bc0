"""Text in columns."""

from policygrad.run.columns import aligned


def test_names_to_the_left_and_numbers_to_the_right():
    lines = [["", "λ = 0"], ["γ = 0.9", "1"], ["γ", "12.5"]]
    assert aligned(lines) == ["         λ = 0", "γ = 0.9      1", "γ         12.5"]
    assert aligned(lines, left=0) == ["         λ = 0", "γ = 0.9      1", "      γ   12.5"]
    assert aligned(lines, left=2) == ["         λ = 0", "γ = 0.9  1", "γ        12.5"], "nothing behind the last cell"
