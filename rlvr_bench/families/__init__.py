"""Tasks that are made alike: competitions, lettered choices, puzzles of reasoning-gym, instructions to follow."""
