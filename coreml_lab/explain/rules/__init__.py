"""What the advisor knows: each rule looks at facts and either says nothing or suggests one action.

A new rule is one ``@rule`` function and one entry in ``RULES`` (in ``advisor``).
"""
