"""tune(): many ways to run a model, tried on its data; which of them nothing else beats.

``space`` says what may differ, ``evaluation`` tries one way in a process of its own, ``study`` asks
Optuna what to try next, ``workers`` run trials that may crash or hang, ``result`` is what came out.
"""
