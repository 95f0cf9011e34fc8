"""Designed proxies: formulas over per-layer statistics, and the machine that looks for them.

The idea is that of GreenMachine: Cortês, Lourenço, Machado, "GreenMachine: Automatic Design of
Zero-Cost Proxies for Energy-Efficient NAS", 2024, https://arxiv.org/abs/2411.15290. How the parts
follow each other: statistics of layers (:mod:`nas.design.atoms`, :mod:`nas.design.measure`) are
computed once per architecture and kept (:mod:`nas.design.archive`); a formula is a typed expression
over them (:mod:`nas.design.expression`); genetic programming looks for one that ranks known
architectures well (:mod:`nas.design.evolution`); what it finds is a file
(:mod:`nas.design.formula`), and the proxy ``formula`` scores by it. Importing this package loads no
torch.
"""
