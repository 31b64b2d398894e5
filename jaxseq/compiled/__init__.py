"""What a compiled program does, read from its text, and the chips it can be compiled for where there are none."""
