"""How untrained networks are run: one module, a batch of cells, or a tree of widths.

Networks of one space that share seeded weights and run at once are in :mod:`nas.networks.batched`,
with a form for operations on edges (:mod:`nas.networks.cells`) and one for operations on vertices
(:mod:`nas.networks.vertices`).

Whoever runs them, a proxy hears the same events (:mod:`nas.networks.events`) and asks the same
questions afterwards (:class:`nas.networks.forward.ForwardPass`).
"""
