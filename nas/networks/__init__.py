"""How untrained networks are run: one module, a batch of cells, or a tree of widths.

Whoever runs them, a proxy hears the same events (:mod:`nas.networks.events`) and asks the same
questions afterwards (:class:`nas.networks.run.Run`).
"""
