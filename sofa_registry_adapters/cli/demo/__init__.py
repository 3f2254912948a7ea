"""The command `demo`: the main job made visible, with real processes and a real ``kill -9``."""
