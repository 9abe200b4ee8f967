"""Experiment files: one TOML file says what to simulate, differentiate, fit and draw.

>>> from ctrnn.experiment.build import Experiment
>>> Experiment("hare-lynx", ["fit.max_iterations=5"]).spec.fit.max_iterations
5
"""
