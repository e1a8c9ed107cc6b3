"""optimize(): candidates tried one after the other, kept only where measurement speaks for them.

``candidates`` lists what to try, ``sensitivity`` and ``allocation`` give each layer its bits,
``search`` tries and decides, ``ledger`` is what came out.
"""
