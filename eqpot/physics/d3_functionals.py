"""Damping of D3 for density functionals: published fits, two numbers of scale and two of damping each.

Sources: a, S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011); b, L. Goerigk, S. Grimme, Phys. Chem. Chem. Phys. 13, 6670 (2011);
c, J. Moellmann, S. Grimme, J. Phys. Chem. C 118, 7615 (2014); d, J. G. Brandenburg et al., Phys. Rev. B 94, 115144 (2016); e, S. Ehlert et al.,
J. Chem. Phys. 154, 061101 (2021); f, M. Bursch et al., J. Chem. Phys. 156, 134105 (2022); g, A. Najibi, L. Goerigk, J. Chem. Theory Comput. 14, 5725
(2018); h, L. Goerigk et al., Phys. Chem. Chem. Phys. 19, 32184 (2017); i, S. Grimme et al., J. Chem. Phys. 143, 054107 (2015); j, J. G. Brandenburg
et al., J. Chem. Phys. 148, 064104 (2018); k, R. Sure, S. Grimme, J. Comput. Chem. 34, 1672 (2013); m, the list of Grimme's group.
"""

from typing import NamedTuple

from eqpot.core.errors import ConfigError, did_you_mean


class Damping(NamedTuple):
    """Scales of the terms r⁻⁶ and r⁻⁸, and the radius f = a1 √(C8/C6) + a2 within which they end; a2 in bohr, as published."""

    s6: float
    s8: float
    a1: float
    a2: float


FUNCTIONALS = {
    "b1b95": Damping(1.0, 1.4507, 0.2092, 5.5545),  # b
    "b2plyp": Damping(0.64, 0.9147, 0.3065, 5.0570),  # b
    "b3lyp": Damping(1.0, 1.9889, 0.3981, 4.4211),  # a
    "b3pw91": Damping(1.0, 2.8524, 0.4312, 4.4693),  # b
    "b97d": Damping(1.0, 2.2609, 0.5545, 3.2297),  # a
    "b973c": Damping(1.0, 1.50, 0.37, 4.10),  # j
    "bhlyp": Damping(1.0, 1.0354, 0.2793, 4.9615),  # b
    "blyp": Damping(1.0, 2.6996, 0.4298, 4.2359),  # a
    "bp": Damping(1.0, 3.2822, 0.3946, 4.8516),  # a
    "camb3lyp": Damping(1.0, 2.0674, 0.3708, 5.4743),  # b
    "hf": Damping(1.0, 0.9171, 0.3385, 2.8830),  # a
    "hf3c": Damping(1.0, 0.8777, 0.4171, 2.9149),  # k
    "hse06": Damping(1.0, 2.310, 0.383, 5.685),  # c
    "lcwpbe": Damping(1.0, 1.8541, 0.3919, 5.0897),  # b
    "olyp": Damping(1.0, 2.6205, 0.5299, 2.8065),  # b
    "pbe": Damping(1.0, 0.7875, 0.4289, 4.4407),  # a
    "pbe0": Damping(1.0, 1.2177, 0.4145, 4.8593),  # a
    "pbeh3c": Damping(1.0, 0.0, 0.486, 4.5),  # i
    "pbesol": Damping(1.0, 2.9491, 0.4466, 6.1742),  # b
    "pw6b95": Damping(1.0, 0.7257, 0.2076, 6.3750),  # b
    "r2scan": Damping(1.0, 0.78981345, 0.49484001, 5.73083694),  # e
    "r2scan0": Damping(1.0, 1.1846, 0.4534, 5.8972),  # f
    "revpbe": Damping(1.0, 2.3550, 0.5238, 3.5016),  # a
    "revpbe0": Damping(1.0, 1.7588, 0.4679, 3.7619),  # b
    "revtpss": Damping(1.0, 1.4023, 0.4426, 4.4723),  # h
    "rpbe": Damping(1.0, 0.8318, 0.1820, 4.0094),  # m
    "rscan": Damping(1.0, 1.08859014, 0.47023427, 5.73408312),  # e
    "scan": Damping(1.0, 0.0, 0.538, 5.42),  # d
    "tpss": Damping(1.0, 1.9435, 0.4535, 4.4752),  # a
    "tpss0": Damping(1.0, 1.2576, 0.3768, 4.5865),  # a
    "tpssh": Damping(1.0, 2.2382, 0.4529, 4.6550),  # b
    "wb97m": Damping(1.0, 0.3908, 0.566, 3.128),  # g
    "wb97x": Damping(1.0, 0.2641, 0.0, 5.4959),  # g
}
"""By the name of the functional in small letters and digits: CAM-B3LYP is camb3lyp, ωB97M is wb97m, and B97-3c is b973c."""


def damping_of(functional: str) -> Damping:
    """Parameters of a functional, however its name is written: 'HSE06', 'CAM-B3LYP', 'wB97M'.

    Raises:
        ConfigError: for one that is not in the list, with the nearest name.
    """
    name = "".join(letter for letter in functional.lower().replace("ω", "w") if letter.isalnum())
    if name not in FUNCTIONALS:
        raise ConfigError(f"no D3(BJ) parameters are known for '{functional}', {did_you_mean(name, FUNCTIONALS)}; or give s8, a1 and a2")
    return FUNCTIONALS[name]
